/**
 * Hands out ranges of one piece of memory, from the front, so that what is never needed at once is
 * never touched. Meant for the few hundred ranges of one connection.
 */

export interface MemoryRange {
  readonly at: number
  readonly length: number
}

/** Ranges begin on cache lines. */
const ALIGNMENT_BYTES = 64

export class ColdMemory {
  readonly #sizeBytes: number
  /** Ranges in use, in the order of their place. */
  readonly #used: MemoryRange[] = []

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes
  }

  /** Returns undefined when there is no room for that length in one piece. */
  take(lengthBytes: number): MemoryRange | undefined {
    const length = Math.ceil(lengthBytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    let at = 0
    let index = 0
    for (; index < this.#used.length; index += 1) {
      const range = this.#used[index]
      if (range === undefined || range.at - at >= length) break
      at = range.at + range.length
    }
    if (at + length > this.#sizeBytes) return undefined
    const taken = { at, length }
    this.#used.splice(index, 0, taken)
    return taken
  }

  giveBack(range: MemoryRange): void {
    this.#used.splice(this.#used.indexOf(range), 1)
  }
}
