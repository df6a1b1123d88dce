/**
 * The main thread's face of the overlay: reads of which a part is not in memory, and what a worker
 * could not finish because other workers were reading. Main thread only.
 */

import { invariant } from '#shared/invariant.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import type { BlockWaiter } from '../fetch/block-wait.ts'
import type { Fetcher } from '../fetch/fetcher.ts'
import type { ColdDevice } from '../node-nbd/block-device.ts'
import type { RamTier } from '../ram-tier/ram-tier.ts'
import type { ReaderEpochs } from '../ram-tier/reader-epochs.ts'
import { blockCount, checkRange } from './block-size.ts'
import { readOnlyError } from './read-only-error.ts'
import type { WriteCache } from './write-cache.ts'
import type { WriteRoom } from './write-room.ts'

export interface ColdOverlayParts {
  readonly sizeBytes: number
  readonly tier: RamTier
  readonly epochs: ReaderEpochs
  readonly fetcher: Pick<Fetcher, 'demand' | 'readAhead'>
  /** Absent when the device is read-only. */
  readonly writing: Writing | undefined
}

export interface Writing {
  readonly writeCache: WriteCache
  readonly room: WriteRoom
}

export class ColdOverlay implements ColdDevice {
  readonly #parts: ColdOverlayParts
  #demandReads = 0
  #demandReadBytes = 0
  /** In the order in which they came. */
  readonly #waiting = new Set<BaseRead>()

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

  /** How long the read that waits longest has waited; 0 when none does. */
  get longestWaitMs(): number {
    for (const { sinceMs } of this.#waiting) return performance.now() - sinceMs
    return 0
  }

  async read(offsetBytes: number, target: Uint8Array): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, target.length)
    await this.#readBase(offsetBytes, target)
    // Last, so that what was written before the read came is in it, whatever arrived meanwhile.
    this.#parts.writing?.writeCache.overlay(offsetBytes, target)
  }

  async write(offsetBytes: number, bytes: Uint8Array, fua: boolean): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, bytes.length)
    const { writeCache, room } = this.#writing()
    await room.use(() => writeCache.write(offsetBytes, bytes, fua))
  }

  async flush(): Promise<void> {
    this.#parts.writing?.writeCache.flush()
  }

  async trim(offsetBytes: number, lengthBytes: number, fua: boolean): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, lengthBytes)
    const { writeCache, room } = this.#writing()
    if (await room.use(() => writeCache.trim(offsetBytes, lengthBytes, fua))) {
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
    const { writeCache, room } = this.#writing()
    if (await room.use(() => writeCache.writeZeroes(offsetBytes, lengthBytes, fua))) {
      await this.#releaseZeroed(offsetBytes, lengthBytes)
    }
  }

  /** Fills the target with the base's bytes, but where the write cache has all of a block's part. */
  async #readBase(offsetBytes: number, target: Uint8Array): Promise<void> {
    const { fetcher } = this.#parts
    const missing = this.#copyPresent(offsetBytes, target)
    if (missing.length === 0) return
    this.#demandReads += 1
    this.#demandReadBytes += target.length
    const read = new BaseRead(this.#parts.tier, offsetBytes, target, missing)
    for (const { first, end } of missing) fetcher.demand(first, end, read)
    const last = missing.at(-1)
    if (missing[0] !== undefined && last !== undefined) {
      fetcher.readAhead(missing[0].first, last.end)
    }
    this.#waiting.add(read)
    try {
      await read.done
    } finally {
      this.#waiting.delete(read)
    }
  }

  /** Copies what is here; returns the runs of blocks that are not. */
  #copyPresent(offsetBytes: number, target: Uint8Array): BlockRun[] {
    const { writing, tier } = this.#parts
    const missing: BlockRun[] = []
    const end = blockCount(offsetBytes + target.length)
    for (let block = Math.floor(offsetBytes / BLOCK_BYTES); block < end; block += 1) {
      const { begin, part } = partOf(target, offsetBytes, block, block + 1)
      if (writing?.writeCache.covers(begin, part.length) === true) continue
      if (tier.copyTo(part, begin, part.length)) continue
      const last = missing.at(-1)
      if (last !== undefined && last.end === block) last.end += 1
      else missing.push({ first: block, end: block + 1 })
    }
    return missing
  }

  async #releaseZeroed(offsetBytes: number, lengthBytes: number): Promise<void> {
    const { epochs } = this.#parts
    const { writeCache } = this.#writing()
    for (let isDone = false; !isDone; ) {
      const { drops } = writeCache
      await epochs.pass(epochs.advance())
      isDone = writeCache.releaseZeroed(offsetBytes, lengthBytes, drops)
    }
  }

  /**
   * Fails the reads that still wait: nothing can answer them any more, and who waits for them keeps the
   * machine from going off.
   */
  failReads(error: Error): void {
    for (const read of this.#waiting) read.onClosed(error)
  }

  #writing(): Writing {
    const { writing } = this.#parts
    if (writing === undefined) throw readOnlyError()
    return writing
  }
}

interface BlockRun {
  readonly first: number
  /** After the last. */
  end: number
}

/** One read that waits for blocks, and takes each the moment it is there. */
class BaseRead implements BlockWaiter {
  readonly sinceMs: number = performance.now()
  readonly done: Promise<void>
  readonly #tier: RamTier
  readonly #offsetBytes: number
  readonly #target: Uint8Array
  readonly #settled = Promise.withResolvers<void>()
  #missingBlocks: number
  #isOver = false

  constructor(
    tier: RamTier,
    offsetBytes: number,
    target: Uint8Array,
    missing: readonly BlockRun[],
  ) {
    this.#tier = tier
    this.#offsetBytes = offsetBytes
    this.#target = target
    this.#missingBlocks = missing.reduce((sum, { first, end }) => sum + end - first, 0)
    this.done = this.#settled.promise
  }

  onBlocks(firstBlock: number, blocks: number): void {
    if (this.#isOver) return // the target is somebody else's by now
    const { begin, part } = partOf(this.#target, this.#offsetBytes, firstBlock, firstBlock + blocks)
    const isHere = this.#tier.copyTo(part, begin, part.length)
    invariant(isHere, `blocks ${firstBlock}+${blocks} came and are not here`)
    this.#missingBlocks -= blocks
    if (this.#missingBlocks === 0) this.#settled.resolve()
  }

  onClosed(error: Error): void {
    this.#isOver = true
    this.#settled.reject(error)
  }
}

/** The part of a read's target that lies in some blocks, and where it begins on the device. */
function partOf(target: Uint8Array, offsetBytes: number, firstBlock: number, endBlock: number) {
  const begin = Math.max(offsetBytes, firstBlock * BLOCK_BYTES)
  const end = Math.min(offsetBytes + target.length, endBlock * BLOCK_BYTES)
  return { begin, part: target.subarray(begin - offsetBytes, end - offsetBytes) }
}
