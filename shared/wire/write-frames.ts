/**
 * The frames of PROTOCOL.md §2 by which a client keeps on the server what it writes. Whole blocks only;
 * all integers are big-endian.
 */
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { READ_BACK_BLOCKS_MAX, WRITE_BLOCKS_MAX, WRITE_RUNS_MAX } from './limits.ts'

/** A→S: blocks that were written, or became zeros. */
export const FRAME_WRITE = 9
/** S→A: up to where writes are durable, and how much room is left. */
export const FRAME_WRITTEN = 10
/** A→S: blocks that were written before are wanted. */
export const FRAME_READ_BACK = 11
/** S→A: they. */
export const FRAME_BLOCKS = 12
/** S→A, behind `opened`: what was written in earlier boots. */
export const FRAME_WRITE_MAP = 13

export const WRITE_KIND = { data: 1, zero: 2 } as const
export type WriteKind = (typeof WRITE_KIND)[keyof typeof WRITE_KIND]

/** Blocks behind one another. */
export interface BlockRun {
  readonly firstBlock: number
  readonly blocks: number
}

export interface WriteRecord extends BlockRun {
  readonly kind: WriteKind
  /** BLOCK_BYTES for each block of data; empty for zeros. */
  readonly bytes: Uint8Array
}

export interface Written {
  /** Of the last frame whose writes are durable. */
  readonly sequence: number
  readonly roomBytes: number
}

export interface ReadBack extends BlockRun {
  /** Comes back with the answer. */
  readonly id: number
}

export interface ReadBackAnswer {
  readonly id: number
  /** Empty when the server does not have all of them. */
  readonly bytes: Uint8Array
}

export interface WriteRun extends BlockRun {
  readonly kind: WriteKind
}

const HEADER_BYTES = 8
const RECORD_BYTES = 12
/** As many as a vDisk may have. */
const BLOCKS_MAX = 2 ** 31

/** type u8, reserved u8, records u16, sequence u32; per record: kind u8, reserved u24, block u32, blocks u32, data */
export function encodeWrite(sequence: number, records: readonly WriteRecord[]): Uint8Array {
  const dataBytes = records.reduce((sum, { bytes }) => sum + bytes.length, 0)
  invariant(dataBytes <= WRITE_BLOCKS_MAX * BLOCK_BYTES, `a write of ${dataBytes} bytes`)
  const { frame, view } = createFrame(
    FRAME_WRITE,
    records.length,
    HEADER_BYTES + records.length * RECORD_BYTES + dataBytes,
  )
  view.setUint32(4, sequence)
  let at = HEADER_BYTES
  for (const { kind, firstBlock, blocks, bytes } of records) {
    view.setUint8(at, kind)
    view.setUint32(at + 4, firstBlock)
    view.setUint32(at + 8, blocks)
    frame.set(bytes, at + RECORD_BYTES)
    at += RECORD_BYTES + bytes.length
  }
  return frame
}

/** `bytes` are views of the frame. @throws {BootwireError} MESSAGE_INVALID */
export function decodeWrite(frame: Uint8Array): {
  readonly sequence: number
  readonly records: WriteRecord[]
} {
  const view = openFrame(frame, 'write', HEADER_BYTES)
  const records: WriteRecord[] = []
  let at = HEADER_BYTES
  let dataBlocks = 0
  for (let left = view.getUint16(2); left > 0; left -= 1) {
    if (at + RECORD_BYTES > frame.length) throw invalid('a record of a write is cut off')
    const kind = view.getUint8(at)
    const run = getRun(view, at + 4)
    at += RECORD_BYTES
    if (kind !== WRITE_KIND.data && kind !== WRITE_KIND.zero) {
      throw invalid(`unknown kind ${kind} of a write`)
    }
    if (kind === WRITE_KIND.data) dataBlocks += run.blocks
    if (dataBlocks > WRITE_BLOCKS_MAX) throw invalid(`a write of ${dataBlocks} blocks`)
    const length = kind === WRITE_KIND.data ? run.blocks * BLOCK_BYTES : 0
    if (at + length > frame.length) throw invalid('the data of a write are cut off')
    records.push({ ...run, kind, bytes: frame.subarray(at, at + length) })
    at += length
  }
  if (at !== frame.length) throw invalid('something follows the records of a write')
  return { sequence: view.getUint32(4), records }
}

/** type u8, reserved u24, sequence u32, room u64 */
export function encodeWritten({ sequence, roomBytes }: Written): Uint8Array {
  const { frame, view } = createFrame(FRAME_WRITTEN, 0, HEADER_BYTES + 8)
  view.setUint32(4, sequence)
  view.setBigUint64(8, BigInt(roomBytes))
  return frame
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function decodeWritten(frame: Uint8Array): Written {
  const view = openFrame(frame, 'written', HEADER_BYTES + 8, true)
  const roomBytes = Number(view.getBigUint64(8))
  if (roomBytes > Number.MAX_SAFE_INTEGER) throw invalid(`room of ${roomBytes} bytes`)
  return { sequence: view.getUint32(4), roomBytes }
}

/** type u8, reserved u24, id u32, block u32, blocks u32 */
export function encodeReadBack({ id, firstBlock, blocks }: ReadBack): Uint8Array {
  invariant(blocks > 0 && blocks <= READ_BACK_BLOCKS_MAX, `${blocks} blocks are wanted back`)
  const { frame, view } = createFrame(FRAME_READ_BACK, 0, HEADER_BYTES + 8)
  view.setUint32(4, id)
  view.setUint32(8, firstBlock)
  view.setUint32(12, blocks)
  return frame
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function decodeReadBack(frame: Uint8Array): ReadBack {
  const view = openFrame(frame, 'read back', HEADER_BYTES + 8, true)
  const run = getRun(view, 8)
  if (run.blocks > READ_BACK_BLOCKS_MAX) throw invalid(`${run.blocks} blocks are wanted back`)
  return { id: view.getUint32(4), ...run }
}

/** type u8, reserved u24, id u32, data */
export function encodeBlocks({ id, bytes }: ReadBackAnswer): Uint8Array {
  const { frame, view } = createFrame(FRAME_BLOCKS, 0, HEADER_BYTES + bytes.length)
  view.setUint32(4, id)
  frame.set(bytes, HEADER_BYTES)
  return frame
}

/** `bytes` is a view of the frame. @throws {BootwireError} MESSAGE_INVALID */
export function decodeBlocks(frame: Uint8Array): ReadBackAnswer {
  const view = openFrame(frame, 'blocks', HEADER_BYTES)
  return { id: view.getUint32(4), bytes: frame.subarray(HEADER_BYTES) }
}

/** type u8, reserved u8, runs u16, reserved u32; per run: kind u8, reserved u24, block u32, blocks u32 */
export function encodeWriteMap(runs: readonly WriteRun[]): Uint8Array {
  invariant(runs.length <= WRITE_RUNS_MAX, `a map of ${runs.length} runs`)
  const length = HEADER_BYTES + runs.length * RECORD_BYTES
  const { frame, view } = createFrame(FRAME_WRITE_MAP, runs.length, length)
  for (const [index, { kind, firstBlock, blocks }] of runs.entries()) {
    const at = HEADER_BYTES + index * RECORD_BYTES
    view.setUint8(at, kind)
    view.setUint32(at + 4, firstBlock)
    view.setUint32(at + 8, blocks)
  }
  return frame
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function decodeWriteMap(frame: Uint8Array): WriteRun[] {
  const view = openFrame(frame, 'write map', HEADER_BYTES)
  const count = view.getUint16(2)
  if (count > WRITE_RUNS_MAX) throw invalid(`a write map of ${count} runs`)
  if (frame.length !== HEADER_BYTES + count * RECORD_BYTES) {
    throw invalid(`a write map of ${count} runs has ${frame.length} bytes`)
  }
  return Array.from({ length: count }, (_, index) => {
    const at = HEADER_BYTES + index * RECORD_BYTES
    const kind = view.getUint8(at)
    if (kind !== WRITE_KIND.data && kind !== WRITE_KIND.zero) {
      throw invalid(`unknown kind ${kind} in a write map`)
    }
    return { kind, ...getRun(view, at + 4) }
  })
}

function createFrame(type: number, count: number, length: number) {
  const frame = new Uint8Array(length)
  const view = new DataView(frame.buffer)
  view.setUint8(0, type)
  view.setUint16(2, count)
  return { frame, view }
}

function openFrame(frame: Uint8Array, what: string, bytes: number, isExact = false): DataView {
  if (isExact ? frame.length !== bytes : frame.length < bytes) {
    throw invalid(`a ${what} of ${frame.length} bytes, expected ${bytes}`)
  }
  return new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
}

function getRun(view: DataView, at: number): BlockRun {
  const [firstBlock, blocks] = [view.getUint32(at), view.getUint32(at + 4)]
  if (blocks === 0 || firstBlock + blocks > BLOCKS_MAX) {
    throw invalid(`blocks ${firstBlock}+${blocks}`)
  }
  return { firstBlock, blocks }
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot read frame: ${why}`)
}
