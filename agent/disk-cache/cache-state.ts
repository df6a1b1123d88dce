/** Keeps the cache's memory of itself on the disk: the state in two pages in turn, and the use table. */
import { MiB } from '#shared/units.ts'
import type { DiskDevice } from '../local-disk/disk-device.ts'
import {
  PAGE_BYTES,
  SEGMENT_BYTES,
  STATE_OFFSETS,
  USES_OFFSET,
  USES_PER_PAGE,
  usePages,
} from './cache-layout.ts'
import type { ObjectIndex } from './object-index.ts'
import { type CacheState, encodeState } from './state-page.ts'
import { encodeUses } from './uses-page.ts'
import type { WriteBudget } from './write-budget.ts'

const HOUR_MS = 3_600_000

/** Written since the state was: then it is time again. */
const STATE_DUE_BYTES: number = MiB

/**
 * What may be written from a state that is durable to the loss of power: two segments with their
 * indexes, for each state is synced with the segment that follows it.
 */
const RESERVE_BYTES: number = 2 * SEGMENT_BYTES + 2 * STATE_DUE_BYTES

export interface CacheStateOptions {
  readonly device: DiskDevice
  readonly cacheId: Buffer
  readonly index: ObjectIndex
  readonly budget: WriteBudget
  /** As it was read. */
  readonly state: CacheState
  /** Never goes back. */
  readonly now: () => number
}

export class CacheStateKeeper {
  readonly #options: CacheStateOptions
  readonly #openedMs: number
  readonly #savedUses: Uint32Array
  #sequence: number
  #segmentsUsed: number
  #writtenBytes: number
  #writtenBytesSaved = 0

  constructor(options: CacheStateOptions) {
    const { state, index, now } = options
    this.#options = options
    this.#openedMs = now()
    this.#savedUses = index.segments.uses.slice()
    this.#sequence = state.sequence
    this.#segmentsUsed = state.segmentsUsed
    this.#writtenBytes = state.writtenBytes
  }

  /** Opening counts as an hour, so that what this boot uses is newer than what the last one did. */
  get clock(): number {
    const { state, now } = this.#options
    return state.clock + 1 + Math.floor((now() - this.#openedMs) / HOUR_MS)
  }

  /** Whether so much was written that a loss of power now would win budget. */
  get isStateDue(): boolean {
    return this.#writtenBytes - this.#writtenBytesSaved >= STATE_DUE_BYTES
  }

  /** Counts what is written, and takes from the budget what was not taken before. */
  wrote(bytes: number, paidBytes = 0): void {
    this.#writtenBytes += bytes
    this.#options.budget.charge(bytes - paidBytes)
  }

  /** The segment is going to be used: start-up has to look at its index. */
  willUse(segment: number): void {
    this.#segmentsUsed = Math.max(this.#segmentsUsed, segment + 1)
  }

  /** `isClean` when nothing more is going to be written. */
  async saveState(isClean: boolean): Promise<void> {
    const { device, cacheId, budget, index } = this.#options
    this.#sequence += 1
    this.wrote(PAGE_BYTES)
    this.#writtenBytesSaved = this.#writtenBytes
    const page = encodeState(
      {
        sequence: this.#sequence,
        clock: this.clock,
        // A machine that loses power before the next state must not be given it again.
        budgetLeftBytes: Math.max(0, budget.leftBytes - (isClean ? 0 : RESERVE_BYTES)),
        segmentsUsed: this.#segmentsUsed,
        objects: index.size,
        writtenBytes: this.#writtenBytes,
      },
      cacheId,
    )
    await device.write(page, STATE_OFFSETS[this.#sequence % STATE_OFFSETS.length] ?? 0)
  }

  /** Writes the pages of the use table that have changed. */
  async saveUses(): Promise<void> {
    const { device, cacheId, index } = this.#options
    const { segments } = index
    for (let page = 0; page < usePages(segments.count); page += 1) {
      const from = page * USES_PER_PAGE
      const uses = segments.uses.subarray(from, from + USES_PER_PAGE)
      const saved = this.#savedUses.subarray(from, from + USES_PER_PAGE)
      if (uses.every((use, at) => use === saved[at])) continue
      saved.set(uses)
      this.wrote(PAGE_BYTES)
      await device.write(encodeUses(segments.uses, page, cacheId), USES_OFFSET + page * PAGE_BYTES)
    }
  }
}
