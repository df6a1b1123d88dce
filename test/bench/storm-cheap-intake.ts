/**
 * In place of the agent's intake in the clients of the storm (storm-cheap.ts): sixty machines have
 * sixty processors to decode and prove what they read, and here all of them share one. Chunks are
 * taken as they come, and what a read gets is not what it should be; everything else is the agent's.
 */

import type { ChunkPlace } from '#agent/fetch/version-tree.ts'
import type { Arrival, RamTier } from '#agent/ram-tier/ram-tier.ts'
import type { ChunkDecoder, Encoded } from '#shared/chunk/chunk-decoder.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'

export class ObjectIntake {
  readonly #tier: RamTier
  readonly #decoder: ChunkDecoder
  readonly #scratch = Buffer.alloc(LEAF_BYTES_MAX)

  constructor(tier: RamTier, decoder: ChunkDecoder) {
    this.#tier = tier
    this.#decoder = decoder
  }

  publish(place: ChunkPlace, encoded: Encoded, _payload: Uint8Array, arrival: Arrival): boolean {
    const reservation = this.#tier.reserve(encoded.rawBytes)
    if (reservation === undefined) return false
    this.#tier.publish(reservation, place.firstBlock, arrival)
    return true
  }

  check(): void {
    // Taken as it is.
  }

  /** The manifest is read as ever: without it nothing is found. */
  decodeNode(encoded: Encoded, payload: Uint8Array): Uint8Array {
    this.#decoder.decode(encoded, payload, this.#scratch, 0)
    return this.#scratch.subarray(0, encoded.rawBytes)
  }
}
