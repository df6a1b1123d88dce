/**
 * What a boot reads and when: the first read of each chunk, also of those that were here already.
 * And how well it was foreseen, by what the first read found.
 */
import type { TraceEntry } from '#shared/wire/frame.ts'
import { BOOT_LIST_ENTRIES_MAX } from '#shared/wire/limits.ts'

/** hit: it was here; late: on its way; miss: not even asked for. */
export type FirstRead = 'hit' | 'late' | 'miss'

export class BootRecorder {
  readonly #readAtMs = new Map<number, number>()
  readonly #counts: Record<FirstRead, number> = { hit: 0, late: 0, miss: 0 }
  #isOver = false

  get counts(): Readonly<Record<FirstRead, number>> {
    return this.#counts
  }

  /** A chunk was read; of interest only the first time. */
  read(firstBlock: number, atMs: number, how: FirstRead): void {
    if (this.#isOver || this.#readAtMs.has(firstBlock)) return
    // What the boot list has no room for is no part of a boot.
    if (this.#readAtMs.size === BOOT_LIST_ENTRIES_MAX) return
    this.#readAtMs.set(firstBlock, Math.floor(atMs))
    this.#counts[how] += 1
  }

  has(firstBlock: number): boolean {
    return this.#readAtMs.has(firstBlock)
  }

  /** Ends the recording and returns it in the order of time; nothing the second time. */
  finish(): TraceEntry[] {
    this.#isOver = true
    const entries = [...this.#readAtMs].map(([position, atMs]) => ({ position, atMs }))
    this.#readAtMs.clear()
    return entries.sort((a, b) => a.atMs - b.atMs)
  }
}
