/**
 * What costs time in an import, as it runs in a worker thread: cutting, hashing, looking at chunks that
 * are stored already, encoding those that are not. One span at a time, in two steps, between which the
 * main thread says what is new.
 */
import { crc32 } from 'node:zlib'
import { cutSpan } from '#shared/chunk/chunk-cutting.ts'
import { invariant } from '#shared/invariant.ts'
import { contentHash, HASH_BYTES, ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { encodeLeaf } from '#shared/manifest/leaf-node.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { CUT_TODAY } from '#shared/manifest/version-root.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'
import { CHUNK_HEADER_BYTES, RECORD_BYTES_MAX, writeChunkHeader } from '../packs/pack-format.ts'
import type { PackWindow } from './pack-window.ts'
import {
  CHUNK_FATE,
  CHUNK_OUTCOME,
  type CutAnswer,
  type StoreAnswer,
  type StoreRequest,
} from './span-worker-messages.ts'
import { createZstdEncoder } from './zstd-encoder.ts'

/** A chunk is stored compressed when that saves at least this part of it: the client decodes it. */
const WORTHWHILE_SAVING = 1 / 16

export type CutSpan = Omit<CutAnswer, 'kind' | 'jobId'>
export type StoredSpan = Omit<StoreAnswer, 'kind' | 'jobId'>

export function cutAndHash(span: Uint8Array): CutSpan {
  const extents = cutSpan(span, CUT_TODAY)
  const chunks = extents.filter(({ isZero }) => !isZero)
  const hashes = new Uint8Array(chunks.length * HASH_BYTES)
  let at = 0
  const hashed = extents.map(({ firstBlock, blocks, isZero }) => {
    if (isZero) return { blocks }
    const hash = contentHash(chunkOf(span, firstBlock, blocks))
    hashes.set(hash, at)
    at += HASH_BYTES
    return { blocks, hash }
  })
  const leaf = chunks.length === 0 ? new Uint8Array(0) : new Uint8Array(encodeLeaf(hashed))
  return {
    firstBlocks: Uint16Array.from(chunks, ({ firstBlock }) => firstBlock),
    blocks: Uint8Array.from(chunks, ({ blocks }) => blocks),
    hashes,
    leaf,
    leafHash: leaf.length === 0 ? ZERO_HASH : contentHash(leaf),
  }
}

export class SpanEncoder {
  readonly #zstd = createZstdEncoder()
  readonly #window: PackWindow

  constructor(window: PackWindow) {
    this.#window = window
  }

  store(span: Uint8Array, cut: CutSpan, request: StoreRequest): StoredSpan {
    const count = cut.blocks.length
    const outcomes = new Uint8Array(count)
    const encodings = new Uint8Array(count)
    const storedLengths = new Uint32Array(count)
    const checksums = new Uint32Array(count)
    const records = new RecordBuffer(request.recordMemory)
    for (let index = 0; index < count; index += 1) {
      if (request.fates[index] === CHUNK_FATE.known) continue
      const hash = cut.hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
      const found = this.#find(hash, index, request)
      const chunk = chunkOf(span, cut.firstBlocks[index] ?? 0, cut.blocks[index] ?? 0)
      const place = found.place ?? this.#encode(chunk, hash, records)
      outcomes[index] = found.outcome
      encodings[index] = place.encoding
      storedLengths[index] = place.storedBytes
      checksums[index] = place.checksum
    }
    return { outcomes, encodings, storedLengths, checksums, records: records.take() }
  }

  #find(hash: Uint8Array, index: number, { fates, packs, offsets, packPaths }: StoreRequest) {
    if (fates[index] !== CHUNK_FATE.verify) return { outcome: CHUNK_OUTCOME.stored }
    const path = packPaths[packs[index] ?? 0] ?? ''
    const reading = this.#read(path, offsets[index] ?? 0)
    if (reading.kind === 'damaged') return { outcome: CHUNK_OUTCOME.storedAnew }
    if (Buffer.compare(reading.chunk.hash, hash) !== 0) {
      return { outcome: CHUNK_OUTCOME.storedInstead }
    }
    return { outcome: CHUNK_OUTCOME.verified, place: reading.chunk }
  }

  #read(path: string, offset: number) {
    try {
      return this.#window.read(path, offset)
    } catch (error) {
      // A disk that cannot read it has lost it.
      return { kind: 'damaged', why: String(error) } as const
    }
  }

  #encode(chunk: Uint8Array, hash: Uint8Array, records: RecordBuffer) {
    const record = records.next()
    const length = this.#zstd.encode(chunk, record, CHUNK_HEADER_BYTES)
    const isWorthwhile = length <= chunk.length * (1 - WORTHWHILE_SAVING)
    if (!isWorthwhile) record.set(chunk, CHUNK_HEADER_BYTES)
    const encoding = isWorthwhile ? CHUNK_ENCODING.zstd : CHUNK_ENCODING.raw
    const storedBytes = isWorthwhile ? length : chunk.length
    const checksum = crc32(record.subarray(CHUNK_HEADER_BYTES, CHUNK_HEADER_BYTES + storedBytes))
    const place = { hash, encoding, rawBytes: chunk.length, storedBytes, checksum }
    writeChunkHeader(record, 0, place)
    records.advance(CHUNK_HEADER_BYTES + storedBytes)
    return place
  }
}

/** Records one behind the other. */
class RecordBuffer {
  readonly #bytes: Uint8Array<SharedArrayBuffer>
  #length = 0

  constructor(memory: SharedArrayBuffer) {
    this.#bytes = new Uint8Array(memory)
  }

  /** Room for one more record, however it comes out. */
  next(): Uint8Array {
    const room = this.#bytes.subarray(this.#length, this.#length + RECORD_BYTES_MAX)
    invariant(room.length === RECORD_BYTES_MAX, 'a span has room for its records')
    return room
  }

  advance(recordBytes: number): void {
    this.#length += recordBytes
  }

  take(): Uint8Array<SharedArrayBuffer> {
    return this.#bytes.subarray(0, this.#length)
  }
}

function chunkOf(span: Uint8Array, firstBlock: number, blocks: number): Uint8Array {
  return span.subarray(firstBlock * BLOCK_BYTES, (firstBlock + blocks) * BLOCK_BYTES)
}
