/**
 * Proves what came, from the server or from the local disk, and puts it where it belongs. The only
 * way of bytes into the RAM tier: decoded into frames that nobody reads yet, compared with the hash
 * in the manifest, and only then published.
 */

import type { ChunkDecoder, Encoded } from '#shared/chunk/chunk-decoder.ts'
import { BootwireError } from '#shared/errors.ts'
import { contentHash } from '#shared/manifest/content-hash.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { bytesOfBlocks } from '#shared/manifest/tree-shape.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import type { Arrival, RamTier } from '../ram-tier/ram-tier.ts'
import type { ChunkPlace } from './version-tree.ts'

export class ObjectIntake {
  readonly #tier: RamTier
  readonly #decoder: ChunkDecoder
  readonly #sizeBytes: number
  readonly #scratch = Buffer.alloc(Math.max(LEAF_BYTES_MAX, CHUNK_BYTES_MAX))

  constructor(tier: RamTier, decoder: ChunkDecoder, sizeBytes: number) {
    this.#tier = tier
    this.#decoder = decoder
    this.#sizeBytes = sizeBytes
  }

  /**
   * Puts a chunk into the RAM tier. Returns false when that has no room at the moment.
   * @throws {BootwireError} CHUNK_CORRUPT when it is not what the manifest says
   */
  publish(place: ChunkPlace, encoded: Encoded, payload: Uint8Array, arrival: Arrival): boolean {
    this.#checkLength(place, encoded)
    const reservation = this.#tier.reserve(encoded.rawBytes)
    if (reservation === undefined) return false
    const { memory, offset } = reservation
    try {
      this.#decodeChunk(place, encoded, payload, memory, offset)
    } catch (error) {
      this.#tier.cancel(reservation)
      throw error
    }
    this.#tier.publish(reservation, place.firstBlock, arrival)
    return true
  }

  /** @throws {BootwireError} CHUNK_CORRUPT when a chunk is not what the manifest says */
  check(place: ChunkPlace, encoded: Encoded, payload: Uint8Array): void {
    this.#checkLength(place, encoded)
    this.#decodeChunk(place, encoded, payload, this.#scratch, 0)
  }

  /** Returns a node's bytes, unproven, valid until the next call. @throws {BootwireError} CHUNK_CORRUPT */
  decodeNode(encoded: Encoded, payload: Uint8Array): Uint8Array {
    if (encoded.rawBytes === 0 || encoded.rawBytes > LEAF_BYTES_MAX) {
      throw corrupt(`a node of ${encoded.rawBytes} bytes`)
    }
    this.#decoder.decode(encoded, payload, this.#scratch, 0)
    return this.#scratch.subarray(0, encoded.rawBytes)
  }

  #checkLength({ firstBlock, blocks }: ChunkPlace, { rawBytes }: Encoded): void {
    const expectedBytes = bytesOfBlocks(this.#sizeBytes, firstBlock, blocks)
    if (rawBytes !== expectedBytes) {
      throw corrupt(`chunk ${firstBlock}: it has ${rawBytes} bytes, expected ${expectedBytes}`)
    }
  }

  #decodeChunk(
    { firstBlock, hash }: ChunkPlace,
    encoded: Encoded,
    payload: Uint8Array,
    memory: Buffer,
    offset: number,
  ): void {
    this.#decoder.decode(encoded, payload, memory, offset)
    const found = contentHash(memory.subarray(offset, offset + encoded.rawBytes))
    if (Buffer.compare(found, hash) === 0) return
    throw corrupt(`chunk ${firstBlock}: its hash is not the one in the manifest`)
  }
}

function corrupt(why: string): BootwireError {
  return new BootwireError('CHUNK_CORRUPT', `Cannot use ${why}`)
}
