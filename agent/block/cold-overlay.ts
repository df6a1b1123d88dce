/**
 * The main thread's face of the overlay: reads of which a part is not in memory, and what a worker
 * could not finish because other workers were reading. Main thread only.
 */
import { type ChunkGrid, chunkOffset, chunksOfRange } from '#shared/chunk/chunk-math.ts'
import { invariant } from '#shared/invariant.ts'
import type { ColdDevice } from '../node-nbd/block-device.ts'
import { checkRange } from './block-size.ts'
import type { ChunkFetcher } from './chunk-fetcher.ts'
import type { RamTier } from './ram-tier.ts'
import { readOnlyError } from './read-only-error.ts'
import type { ReaderEpochs } from './reader-epochs.ts'
import type { WriteCache } from './write-cache.ts'

export interface ColdOverlayParts {
  readonly sizeBytes: number
  readonly grid: ChunkGrid
  readonly tier: RamTier
  readonly epochs: ReaderEpochs
  readonly fetcher: ChunkFetcher
  /** Absent when the device is read-only. */
  readonly writeCache: WriteCache | undefined
}

export class ColdOverlay implements ColdDevice {
  readonly #parts: ColdOverlayParts
  #demandReads = 0
  #demandReadBytes = 0

  constructor(parts: ColdOverlayParts) {
    this.#parts = parts
  }

  /** Reads that had to wait for the server. */
  get demandReads(): number {
    return this.#demandReads
  }

  get demandReadBytes(): number {
    return this.#demandReadBytes
  }

  async read(offsetBytes: number, target: Uint8Array): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, target.length)
    await this.#readBase(offsetBytes, target)
    // Last, so that what was written before the read came is in it, whatever arrived meanwhile.
    this.#parts.writeCache?.overlay(offsetBytes, target)
  }

  async write(offsetBytes: number, bytes: Uint8Array, fua: boolean): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, bytes.length)
    this.#writable().write(offsetBytes, bytes, fua)
  }

  async flush(): Promise<void> {
    this.#parts.writeCache?.flush()
  }

  async trim(offsetBytes: number, lengthBytes: number, fua: boolean): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, lengthBytes)
    if (this.#writable().trim(offsetBytes, lengthBytes, fua)) {
      await this.#releaseZeroed(offsetBytes, lengthBytes)
    }
  }

  async writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    _mayTrim: boolean,
    fua: boolean,
  ): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, lengthBytes)
    if (this.#writable().writeZeroes(offsetBytes, lengthBytes, fua)) {
      await this.#releaseZeroed(offsetBytes, lengthBytes)
    }
  }

  /** Fills the target with the base's bytes, but where the write cache has all of a chunk's part. */
  #readBase(offsetBytes: number, target: Uint8Array): Promise<void> {
    const { grid, fetcher, tier } = this.#parts
    const { first, end } = chunksOfRange(grid, offsetBytes, target.length)
    return new Promise((resolve, reject) => {
      let missing = 1 // this call itself, so that it cannot end before all chunks are asked for
      const done = (error?: unknown) => {
        missing -= 1
        if (error !== undefined) reject(error)
        else if (missing === 0) resolve()
      }
      for (let chunkIndex = first; chunkIndex < end; chunkIndex += 1) {
        const begin = Math.max(offsetBytes, chunkOffset(grid, chunkIndex))
        const partEnd = Math.min(offsetBytes + target.length, chunkOffset(grid, chunkIndex + 1))
        const part = target.subarray(begin - offsetBytes, partEnd - offsetBytes)
        if (this.#copyPart(begin, part)) continue
        missing += 1
        fetcher.demand(chunkIndex, (error) => {
          // At once: the chunk may be evicted after this call.
          const isHere = error !== undefined || tier.copyTo(part, begin, part.length)
          invariant(isHere, `chunk ${chunkIndex} came and is not here`)
          done(error)
        })
      }
      if (missing > 1) this.#countDemand(target.length, first, end)
      done()
    })
  }

  #copyPart(offsetBytes: number, part: Uint8Array): boolean {
    const { writeCache, tier } = this.#parts
    if (writeCache?.covers(offsetBytes, part.length) === true) return true
    return tier.copyTo(part, offsetBytes, part.length)
  }

  #countDemand(lengthBytes: number, first: number, end: number): void {
    this.#demandReads += 1
    this.#demandReadBytes += lengthBytes
    this.#parts.fetcher.readAhead(first, end)
  }

  async #releaseZeroed(offsetBytes: number, lengthBytes: number): Promise<void> {
    const { epochs } = this.#parts
    const writeCache = this.#writable()
    for (let isDone = false; !isDone; ) {
      const { drops } = writeCache
      await epochs.pass(epochs.advance())
      isDone = writeCache.releaseZeroed(offsetBytes, lengthBytes, drops)
    }
  }

  #writable(): WriteCache {
    const { writeCache } = this.#parts
    if (writeCache === undefined) throw readOnlyError()
    return writeCache
  }
}
