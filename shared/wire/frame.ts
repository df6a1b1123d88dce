/**
 * The binary frames of PROTOCOL.md §2: what is inside each websocket message. All integers are
 * big-endian. Control frames are handled by codec.ts; chunk frames are fixed headers, so that a
 * chunk's bytes are never copied to be wrapped.
 */
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { CHUNK_BYTES_MAX } from './limits.ts'

export const FRAME_CONTROL = 1
export const FRAME_CHUNK_REQUEST = 2
export const FRAME_CHUNK = 3

/** How a chunk's payload is stored, and so how it travels. */
export const CHUNK_ENCODING = { zero: 0, raw: 1, zstd: 2 } as const
export type ChunkEncoding = (typeof CHUNK_ENCODING)[keyof typeof CHUNK_ENCODING]

export const CHUNK_REQUEST_BYTES = 12
export const CHUNK_HEADER_BYTES = 12

/** `priority` 0 is a demand read: the kernel waits for it. Larger numbers may wait. */
export interface ChunkRequest {
  readonly requestId: number
  readonly chunkIndex: number
  readonly priority: number
}

export interface ChunkHeader {
  readonly requestId: number
  readonly encoding: ChunkEncoding
  /** Length once decoded. */
  readonly rawBytes: number
}

/** type u8, priority u8, reserved u16 = 0, request id u32, chunk index u32 */
export function encodeChunkRequest(request: ChunkRequest): Uint8Array {
  const frame = new Uint8Array(CHUNK_REQUEST_BYTES)
  const view = new DataView(frame.buffer)
  view.setUint8(0, FRAME_CHUNK_REQUEST)
  view.setUint8(1, request.priority)
  view.setUint32(4, request.requestId)
  view.setUint32(8, request.chunkIndex)
  return frame
}

/** @throws {BootwireError} MESSAGE_INVALID */
export function decodeChunkRequest(frame: Uint8Array): ChunkRequest {
  if (frame.length !== CHUNK_REQUEST_BYTES) {
    throw invalid(`a chunk request has ${CHUNK_REQUEST_BYTES} bytes, this has ${frame.length}`)
  }
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  return { priority: view.getUint8(1), requestId: view.getUint32(4), chunkIndex: view.getUint32(8) }
}

/** type u8, encoding u8, reserved u16 = 0, request id u32, raw length u32; the payload follows */
export function encodeChunkHeader(header: ChunkHeader): Uint8Array {
  invariant(header.rawBytes <= CHUNK_BYTES_MAX, `chunk of ${header.rawBytes} bytes`)
  const frame = new Uint8Array(CHUNK_HEADER_BYTES)
  const view = new DataView(frame.buffer)
  view.setUint8(0, FRAME_CHUNK)
  view.setUint8(1, header.encoding)
  view.setUint32(4, header.requestId)
  view.setUint32(8, header.rawBytes)
  return frame
}

/** Reads the header of a chunk frame; the payload is what follows it. @throws {BootwireError} MESSAGE_INVALID */
export function decodeChunkHeader(frame: Uint8Array): ChunkHeader {
  if (frame.length < CHUNK_HEADER_BYTES)
    throw invalid(`a chunk frame of ${frame.length} bytes has no header`)
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  const encoding = view.getUint8(1)
  const rawBytes = view.getUint32(8)
  if (
    encoding !== CHUNK_ENCODING.zero &&
    encoding !== CHUNK_ENCODING.raw &&
    encoding !== CHUNK_ENCODING.zstd
  ) {
    throw invalid(`unknown chunk encoding ${encoding}`)
  }
  if (rawBytes > CHUNK_BYTES_MAX)
    throw invalid(`chunk of ${rawBytes} bytes, at most ${CHUNK_BYTES_MAX} are allowed`)
  const payloadBytes = frame.length - CHUNK_HEADER_BYTES
  if (encoding === CHUNK_ENCODING.zero && payloadBytes !== 0)
    throw invalid('a zero chunk with a payload')
  if (encoding === CHUNK_ENCODING.raw && payloadBytes !== rawBytes) {
    throw invalid(`raw chunk of ${payloadBytes} bytes announced as ${rawBytes}`)
  }
  return { requestId: view.getUint32(4), encoding, rawBytes }
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot read frame: ${why}`)
}
