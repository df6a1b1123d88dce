/**
 * What main thread and span workers say to each other. Large memory is shared: handed over, it would be
 * accounted anew each time, and the garbage collector run for it.
 */
import type { PackedChunk } from '../packs/pack-format.ts'

/** What is to become of a chunk of a span. */
export const CHUNK_FATE = {
  /** It is stored, or will be, by somebody in this process. */
  known: 0,
  /** It is encoded. */
  store: 1,
  /** It should be in a pack: it is looked at, and encoded when it is not there or damaged. */
  verify: 2,
} as const
export type ChunkFate = (typeof CHUNK_FATE)[keyof typeof CHUNK_FATE]

/** First message of a span: cut and hash it. */
export interface CutRequest {
  readonly kind: 'cut'
  readonly jobId: number
  readonly memory: SharedArrayBuffer
  readonly lengthBytes: number
}

export interface CutAnswer {
  readonly kind: 'cut'
  readonly jobId: number
  /** One element per chunk, without zeros. */
  readonly firstBlocks: Uint16Array<ArrayBuffer>
  readonly blocks: Uint8Array<ArrayBuffer>
  /** 32 bytes per chunk. */
  readonly hashes: Uint8Array<ArrayBuffer>
  /** Empty when the span is all zero. */
  readonly leaf: Uint8Array<ArrayBuffer>
  readonly leafHash: Uint8Array
}

/** Second message of a span. */
export interface StoreRequest {
  readonly kind: 'store'
  readonly jobId: number
  /** A ChunkFate per chunk. */
  readonly fates: Uint8Array<ArrayBuffer>
  /** For chunks to be verified: index in `packPaths`, and where in the pack. */
  readonly packs: Uint16Array<ArrayBuffer>
  readonly offsets: Uint32Array<ArrayBuffer>
  readonly packPaths: readonly string[]
  /** Room for `records`, at least RECORDS_BYTES_MAX. */
  readonly recordMemory: SharedArrayBuffer
}

/** How a chunk's verification ended; encoded ones are `stored`, too, when they were not found. */
export const CHUNK_OUTCOME = {
  known: 0,
  /** Encoded, the next of `records`. */
  stored: 1,
  /** It is where it should be. */
  verified: 2,
  /** Encoded, since another chunk lies there. */
  storedInstead: 3,
  /** Encoded, since what lies there is damaged. */
  storedAnew: 4,
} as const

export interface StoreAnswer {
  readonly kind: 'store'
  readonly jobId: number
  /** A CHUNK_OUTCOME per chunk. */
  readonly outcomes: Uint8Array<ArrayBuffer>
  readonly encodings: Uint8Array<ArrayBuffer>
  readonly storedLengths: Uint32Array<ArrayBuffer>
  readonly checksums: Uint32Array<ArrayBuffer>
  /** What was encoded, as it stands in a pack: header, stored bytes, and so on. */
  readonly records: Uint8Array<SharedArrayBuffer>
}

/** Reads chunks of a pack and proves each: its checksum, its hash, and that it is the one of the index. */
export interface ProveRequest {
  readonly kind: 'prove'
  readonly jobId: number
  readonly packPath: string
  /** As they stand in the index. */
  readonly entries: Uint8Array
}

export interface ProveAnswer {
  readonly kind: 'prove'
  readonly jobId: number
  /** Offsets of chunks that are not what they should be, and why. */
  readonly damaged: readonly { readonly offset: number; readonly why: string }[]
}

export interface FailedAnswer {
  readonly kind: 'failed'
  readonly jobId: number
  readonly message: string
}

export type WorkerRequest = CutRequest | StoreRequest | ProveRequest
export type WorkerAnswer = CutAnswer | StoreAnswer | ProveAnswer | FailedAnswer

/** A chunk as a pack says it is, or what is wrong there. */
export type PackReading =
  | { readonly kind: 'chunk'; readonly chunk: PackedChunk; readonly stored: Uint8Array }
  | { readonly kind: 'damaged'; readonly why: string }
