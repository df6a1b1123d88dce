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
import type { WriteBack } from './write-back.ts'
import { BlockAway, type WriteCache } from './write-cache.ts'
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
  /** Absent where no server takes anything. */
  readonly writeBack: WriteBack | undefined
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
    const { writing } = this.#parts
    if (writing === undefined) return
    // Last, so that what was written before the read came is in it, whatever arrived meanwhile.
    const fetched = new Set<number>()
    for (;;) {
      const away = writing.writeCache.overlay(offsetBytes, target, fetched)
      if (away.length === 0) return
      await this.#fetchAway(writing, away, offsetBytes, target)
      for (const block of away) fetched.add(block)
    }
  }

  async write(offsetBytes: number, bytes: Uint8Array, fua: boolean): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, bytes.length)
    const writing = this.#writing()
    await this.#change(writing, () => writing.writeCache.write(offsetBytes, bytes, fua))
    if (fua) await this.#drain()
  }

  async flush(): Promise<void> {
    this.#parts.writing?.writeCache.flush()
    await this.#drain()
  }

  async trim(offsetBytes: number, lengthBytes: number, fua: boolean): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, lengthBytes)
    const writing = this.#writing()
    const trim = () => writing.writeCache.trim(offsetBytes, lengthBytes, fua)
    if (await this.#change(writing, trim)) await this.#releaseZeroed(offsetBytes, lengthBytes)
    if (fua) await this.#drain()
  }

  async writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    _mayTrim: boolean,
    fua: boolean,
  ): Promise<void> {
    checkRange(this.#parts.sizeBytes, offsetBytes, lengthBytes)
    const writing = this.#writing()
    const zero = () => writing.writeCache.writeZeroes(offsetBytes, lengthBytes, fua)
    if (await this.#change(writing, zero)) await this.#releaseZeroed(offsetBytes, lengthBytes)
    if (fua) await this.#drain()
  }

  /** Makes a change once there is room for it, and what of it is away is here. */
  async #change<T>({ room, writeBack }: Writing, change: () => T): Promise<T> {
    for (;;) {
      try {
        return await room.use(change)
      } catch (error) {
        if (!(error instanceof BlockAway) || writeBack === undefined) throw error
        const { block } = error
        const bytes = await writeBack.fetchBlock(block)
        await room.use(() => writeBack.bringBack(block, bytes))
      }
    }
  }

  /** What is kept on the server is safe when it is there. */
  async #drain(): Promise<void> {
    const writeBack = this.#parts.writing?.writeBack
    if (writeBack?.isKept === true) await writeBack.drain()
  }

  /** Fills the parts of the target that are away. */
  async #fetchAway(
    { writeBack }: Writing,
    away: readonly number[],
    offsetBytes: number,
    target: Uint8Array,
  ): Promise<void> {
    invariant(writeBack !== undefined, 'what is away is on a server')
    await Promise.all(
      runsOf(away).map(({ first, end }) =>
        writeBack.fetch(first, end - first, (firstBlock, bytes) => {
          const { begin, part } = partOf(
            target,
            offsetBytes,
            firstBlock,
            firstBlock + bytes.length / BLOCK_BYTES,
          )
          const from = begin - firstBlock * BLOCK_BYTES
          part.set(bytes.subarray(from, from + part.length))
        }),
      ),
    )
  }

  /** For who must complete a block of which a part was written. */
  readBase(offsetBytes: number, target: Uint8Array): Promise<void> {
    return this.#readBase(offsetBytes, target, false)
  }

  /** Fills the target with the base's bytes, but where the write cache has all of a block's part. */
  async #readBase(offsetBytes: number, target: Uint8Array, skipsWritten = true): Promise<void> {
    const { fetcher } = this.#parts
    const missing = this.#copyPresent(offsetBytes, target, skipsWritten)
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
  #copyPresent(offsetBytes: number, target: Uint8Array, skipsWritten: boolean): BlockRun[] {
    const { writing, tier } = this.#parts
    const missing: BlockRun[] = []
    const end = blockCount(offsetBytes + target.length)
    for (let block = Math.floor(offsetBytes / BLOCK_BYTES); block < end; block += 1) {
      const { begin, part } = partOf(target, offsetBytes, block, block + 1)
      if (skipsWritten && writing?.writeCache.covers(begin, part.length) === true) continue
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
    this.#parts.writing?.writeBack?.failWaiting(error)
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

function runsOf(blocks: readonly number[]): BlockRun[] {
  const runs: BlockRun[] = []
  for (const block of blocks) {
    const last = runs.at(-1)
    if (last?.end === block) last.end += 1
    else runs.push({ first: block, end: block + 1 })
  }
  return runs
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
