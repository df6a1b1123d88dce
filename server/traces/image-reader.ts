/**
 * Reads any bytes of a version out of the store, for looking at its file systems. Chunks are decoded
 * one by one and the last ones kept, since metadata is read in small pieces that lie together.
 */
import type { VersionReader } from '#server/store/chunk-store.ts'
import { ChunkDecoder } from '#shared/chunk/chunk-decoder.ts'
import { BootwireError } from '#shared/errors.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { BLOCK_BYTES, bytesOfBlocks } from '#shared/manifest/tree-shape.ts'
import { CHUNK_LEVEL } from '#shared/wire/frame.ts'

/** Decoded chunks kept, some 5 MiB. */
const KEPT_CHUNKS_MAX = 128

export class ImageReader {
  readonly #reader: VersionReader
  readonly #decoder = new ChunkDecoder()
  readonly #stored = new Uint8Array(LEAF_BYTES_MAX)
  /** By index, least recently used first. */
  readonly #kept = new Map<number, Uint8Array>()

  constructor(reader: VersionReader) {
    this.#reader = reader
  }

  /** Bytes beyond the end are zero. One read at a time. */
  readonly read = async (offsetBytes: number, lengthBytes: number): Promise<Uint8Array> => {
    const { chunks, sizeBytes } = this.#reader
    const target = new Uint8Array(lengthBytes)
    const end = Math.min(offsetBytes + lengthBytes, sizeBytes)
    for (let at = offsetBytes; at < end; ) {
      const block = Math.floor(at / BLOCK_BYTES)
      const index = chunks.indexAt(block)
      if (index < 0) {
        at = (block + 1) * BLOCK_BYTES
        continue
      }
      const begin = chunks.firstBlock(index) * BLOCK_BYTES
      const chunk = await this.#chunk(index)
      const part = chunk.subarray(at - begin, end - begin)
      target.set(part, at - offsetBytes)
      at += part.length
    }
    return target
  }

  async #chunk(index: number): Promise<Uint8Array> {
    const kept = this.#kept.get(index)
    if (kept !== undefined) {
      this.#kept.delete(index)
      this.#kept.set(index, kept)
      return kept
    }
    const chunk = await this.#decode(index)
    this.#kept.set(index, chunk)
    const [oldest] = this.#kept.keys()
    if (this.#kept.size > KEPT_CHUNKS_MAX && oldest !== undefined) this.#kept.delete(oldest)
    return chunk
  }

  async #decode(index: number): Promise<Uint8Array> {
    const { chunks, sizeBytes } = this.#reader
    const position = chunks.firstBlock(index)
    const stored = await this.#reader.readObject({ level: CHUNK_LEVEL, position }, this.#stored)
    const rawBytes = bytesOfBlocks(sizeBytes, position, chunks.blocks(index))
    if (stored === undefined || stored.rawBytes !== rawBytes) {
      throw new BootwireError('CHUNK_CORRUPT', `Cannot read chunk ${position}: it is another one`)
    }
    const chunk = new Uint8Array(rawBytes)
    this.#decoder.decode(stored, this.#stored.subarray(0, stored.storedBytes), chunk, 0)
    return chunk
  }
}
