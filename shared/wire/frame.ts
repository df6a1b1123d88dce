/**
 * The binary frames of PROTOCOL.md §2: what is inside each websocket message. All integers are
 * big-endian. Control frames are handled by codec.ts; the others are fixed headers, so that a chunk's
 * bytes are never copied to be wrapped.
 *
 * An *object* is a chunk or a node of the manifest. It is named by its place in the tree of the version
 * that the session has open: level and position (shared/manifest/tree-shape.ts). A request is answered
 * by the object of that name, so nothing else ties the two together.
 */
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { LEVEL_MAX } from '#shared/manifest/tree-shape.ts'
import { BOOT_LIST_ENTRIES_MAX, PUSH_RANGES_MAX, REQUEST_OBJECTS_MAX } from './limits.ts'

// 2 and 3 were protocol 1's chunk request and chunk.
export const FRAME_CONTROL = 1
/** A→S: objects that are wanted. */
export const FRAME_REQUEST = 4
/** S→A: objects, asked for or pushed. */
export const FRAME_OBJECTS = 5
/** S→A, right after `opened`: the order in which a boot is expected to need what. */
export const FRAME_BOOT_LIST = 6
/** A→S: parts of the boot list that the server may push, in this order. */
export const FRAME_PUSH = 7
/** A→S: what a boot has read, and when. */
export const FRAME_TRACE = 8

/** Demand reads: somebody waits. Larger numbers may wait. */
export const PRIORITY = { demand: 0, prefetch: 1, hydration: 2 } as const
export type Priority = (typeof PRIORITY)[keyof typeof PRIORITY]

/** How an object's payload is stored, and so how it travels. */
export const CHUNK_ENCODING = { raw: 1, zstd: 2 } as const
export type ChunkEncoding = (typeof CHUNK_ENCODING)[keyof typeof CHUNK_ENCODING]

/**
 * Answers without a payload: `absent` where the version has no such object, since everything there is
 * zero; `unreadable` where the server's disk has lost it.
 */
export const NO_PAYLOAD = { absent: 0, unreadable: 255 } as const
export type AnswerEncoding = ChunkEncoding | (typeof NO_PAYLOAD)[keyof typeof NO_PAYLOAD]

/** Level of chunks; their position is the number of their first block. */
export const CHUNK_LEVEL = 0

export interface ObjectName {
  /** 0 for a chunk, 1 for a leaf, up to LEVEL_MAX. */
  readonly level: number
  /**
   * First block of a chunk; number of a node in its level. A request may name any block of a chunk, so
   * that one who has not got the leaf yet may ask for both at once; the answer names the first.
   */
  readonly position: number
}

export interface ObjectRequest {
  readonly priority: Priority
  readonly objects: readonly ObjectName[]
}

export interface ObjectHeader extends ObjectName {
  readonly encoding: AnswerEncoding
  /** Length once decoded. */
  readonly rawBytes: number
  /** Length of the payload, at most `rawBytes`. */
  readonly storedBytes: number
}

export interface BootListEntry extends ObjectName {
  readonly storedBytes: number
}

/** Entries `begin` to before `end` of the boot list. */
export interface PushRange {
  readonly begin: number
  readonly end: number
}

export interface TraceEntry {
  /** First block of a chunk that was read. */
  readonly position: number
  /** When it was first read, in milliseconds since the vDisk was attached. */
  readonly atMs: number
}

const FRAME_HEADER_BYTES = 4
const OBJECT_NAME_BYTES = 8
export const OBJECTS_HEADER_BYTES = FRAME_HEADER_BYTES
export const OBJECT_HEADER_BYTES = 16
const RANGE_BYTES = 8
const TRACE_ENTRY_BYTES = 8
const STORED_BYTES_MAX = 0xff_ffff

/** type u8, priority u8, count u16; per object: level u8, reserved u24, position u32 */
export function encodeRequest({ priority, objects }: ObjectRequest): Uint8Array {
  invariant(objects.length <= REQUEST_OBJECTS_MAX, `a request for ${objects.length} objects`)
  const { frame, view } = createFrame(FRAME_REQUEST, objects.length, OBJECT_NAME_BYTES)
  view.setUint8(1, priority)
  for (const [index, object] of objects.entries()) setName(view, nameAt(index), object)
  return frame
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function decodeRequest(frame: Uint8Array): ObjectRequest {
  const { view, count } = openFrame(frame, 'request', OBJECT_NAME_BYTES, REQUEST_OBJECTS_MAX)
  const priority = view.getUint8(1)
  if (priority > PRIORITY.hydration) throw invalid(`priority ${priority} in a request`)
  const objects = Array.from({ length: count }, (_, index) => getName(view, nameAt(index)))
  return { priority: priority as Priority, objects }
}

/** type u8, reserved u8, count u16; the objects follow, each with its header */
export function writeObjectsHeader(frame: Uint8Array, count: number): void {
  frame[0] = FRAME_OBJECTS
  frame[1] = 0
  frame[2] = count >>> 8
  frame[3] = count & 0xff
}

/** level u8, encoding u8, reserved u16, position u32, raw length u32, stored length u32 */
export function writeObjectHeader(target: Uint8Array, at: number, header: ObjectHeader): void {
  const view = new DataView(target.buffer, target.byteOffset + at, OBJECT_HEADER_BYTES)
  view.setUint8(0, header.level)
  view.setUint8(1, header.encoding)
  view.setUint16(2, 0)
  view.setUint32(4, header.position)
  view.setUint32(8, header.rawBytes)
  view.setUint32(12, header.storedBytes)
}

/**
 * Calls `onObject` for each object of the frame; its payload is a view.
 * @throws {BootwireError} MESSAGE_INVALID, maybe after some calls
 */
export function readObjects(
  frame: Uint8Array,
  onObject: (header: ObjectHeader, payload: Uint8Array) => void,
): void {
  if (frame.length < OBJECTS_HEADER_BYTES) throw invalid('a frame of objects has no header')
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  let at = OBJECTS_HEADER_BYTES
  for (let left = view.getUint16(2); left > 0; left -= 1) {
    if (at + OBJECT_HEADER_BYTES > frame.length) throw invalid('an object has no header')
    const header = readObjectHeader(view, at)
    at += OBJECT_HEADER_BYTES
    if (at + header.storedBytes > frame.length) throw invalid('an object is cut off')
    onObject(header, frame.subarray(at, at + header.storedBytes))
    at += header.storedBytes
  }
  if (at !== frame.length) throw invalid('something follows the objects of a frame')
}

/** type u8, reserved u8, count u16; per entry: level u8, stored length u24, position u32 */
export function encodeBootList(entries: readonly BootListEntry[]): Uint8Array {
  invariant(entries.length <= BOOT_LIST_ENTRIES_MAX, `a boot list of ${entries.length}`)
  const { frame, view } = createFrame(FRAME_BOOT_LIST, entries.length, OBJECT_NAME_BYTES)
  for (const [index, entry] of entries.entries()) {
    invariant(entry.storedBytes <= STORED_BYTES_MAX, `an object of ${entry.storedBytes} bytes`)
    setName(view, nameAt(index), entry, entry.storedBytes)
  }
  return frame
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function decodeBootList(frame: Uint8Array): BootListEntry[] {
  const { view, count } = openFrame(frame, 'boot list', OBJECT_NAME_BYTES, BOOT_LIST_ENTRIES_MAX)
  return Array.from({ length: count }, (_, index) => {
    const storedBytes = view.getUint32(nameAt(index)) & STORED_BYTES_MAX
    return { ...getName(view, nameAt(index)), storedBytes }
  })
}

/** type u8, reserved u8, count u16; per range: begin u32, end u32 */
export function encodePush(ranges: readonly PushRange[]): Uint8Array {
  invariant(ranges.length <= PUSH_RANGES_MAX, `${ranges.length} ranges to push`)
  const { frame, view } = createFrame(FRAME_PUSH, ranges.length, RANGE_BYTES)
  for (const [index, { begin, end }] of ranges.entries()) {
    view.setUint32(FRAME_HEADER_BYTES + index * RANGE_BYTES, begin)
    view.setUint32(FRAME_HEADER_BYTES + index * RANGE_BYTES + 4, end)
  }
  return frame
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function decodePush(frame: Uint8Array): PushRange[] {
  const { view, count } = openFrame(frame, 'push', RANGE_BYTES, PUSH_RANGES_MAX)
  return Array.from({ length: count }, (_, index) => {
    const at = FRAME_HEADER_BYTES + index * RANGE_BYTES
    const range = { begin: view.getUint32(at), end: view.getUint32(at + 4) }
    if (range.begin >= range.end || range.end > BOOT_LIST_ENTRIES_MAX) {
      throw invalid(`a push of entries ${range.begin} to ${range.end}`)
    }
    return range
  })
}

/** type u8, reserved u8, count u16; per entry: position u32, time u32; in order of time */
export function encodeTrace(entries: readonly TraceEntry[]): Uint8Array {
  invariant(entries.length <= BOOT_LIST_ENTRIES_MAX, `a trace of ${entries.length}`)
  const { frame, view } = createFrame(FRAME_TRACE, entries.length, TRACE_ENTRY_BYTES)
  for (const [index, { position, atMs }] of entries.entries()) {
    view.setUint32(FRAME_HEADER_BYTES + index * TRACE_ENTRY_BYTES, position)
    view.setUint32(FRAME_HEADER_BYTES + index * TRACE_ENTRY_BYTES + 4, atMs)
  }
  return frame
}

/** Whether the chunks exist is for the caller to see. @throws {BootwireError} MESSAGE_INVALID */
export function decodeTrace(frame: Uint8Array): TraceEntry[] {
  const { view, count } = openFrame(frame, 'trace', TRACE_ENTRY_BYTES, BOOT_LIST_ENTRIES_MAX)
  let last = 0
  return Array.from({ length: count }, (_, index) => {
    const at = FRAME_HEADER_BYTES + index * TRACE_ENTRY_BYTES
    const entry = { position: view.getUint32(at), atMs: view.getUint32(at + 4) }
    if (entry.atMs < last) throw invalid('a trace that goes back in time')
    last = entry.atMs
    return entry
  })
}

function readObjectHeader(view: DataView, at: number): ObjectHeader {
  const level = view.getUint8(at)
  const encoding = view.getUint8(at + 1)
  const position = view.getUint32(at + 4)
  const rawBytes = view.getUint32(at + 8)
  const storedBytes = view.getUint32(at + 12)
  if (level > LEVEL_MAX) throw invalid(`an object of level ${level}`)
  if (encoding === NO_PAYLOAD.absent || encoding === NO_PAYLOAD.unreadable) {
    if (storedBytes !== 0) throw invalid('a payload of an object that is not there')
    return { level, position, encoding, rawBytes, storedBytes }
  }
  if (encoding !== CHUNK_ENCODING.raw && encoding !== CHUNK_ENCODING.zstd) {
    throw invalid(`unknown encoding ${encoding}`)
  }
  // The larger of the two kinds; how long a chunk is exactly is in the manifest.
  if (rawBytes > LEAF_BYTES_MAX) throw invalid(`an object of ${rawBytes} bytes`)
  if (encoding === CHUNK_ENCODING.raw ? storedBytes !== rawBytes : storedBytes > rawBytes) {
    throw invalid(`an object of ${rawBytes} bytes stored in ${storedBytes}`)
  }
  return { level, position, encoding, rawBytes, storedBytes }
}

function createFrame(type: number, count: number, entryBytes: number) {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + count * entryBytes)
  const view = new DataView(frame.buffer)
  view.setUint8(0, type)
  view.setUint16(2, count)
  return { frame, view }
}

function openFrame(frame: Uint8Array, what: string, entryBytes: number, countMax: number) {
  if (frame.length < FRAME_HEADER_BYTES) throw invalid(`a ${what} without a header`)
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  const count = view.getUint16(2)
  if (count > countMax) throw invalid(`a ${what} of ${count}, at most ${countMax} are allowed`)
  const expectedBytes = FRAME_HEADER_BYTES + count * entryBytes
  if (frame.length !== expectedBytes) {
    throw invalid(`a ${what} of ${count} has ${expectedBytes} bytes, this has ${frame.length}`)
  }
  return { view, count }
}

function nameAt(index: number): number {
  return FRAME_HEADER_BYTES + index * OBJECT_NAME_BYTES
}

function setName(view: DataView, at: number, { level, position }: ObjectName, low = 0): void {
  view.setUint32(at, ((level << 24) | low) >>> 0)
  view.setUint32(at + 4, position)
}

function getName(view: DataView, at: number): ObjectName {
  const level = view.getUint8(at)
  if (level > LEVEL_MAX) throw invalid(`an object of level ${level}`)
  return { level, position: view.getUint32(at + 4) }
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot read frame: ${why}`)
}
