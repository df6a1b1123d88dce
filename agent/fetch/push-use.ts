/** What the pushes were good for: how much came, and how much of it nobody has read. */
import { CHUNK_LEVEL, type ObjectHeader } from '#shared/wire/frame.ts'

export class PushUse {
  #pushedBytes = 0
  /** Stored bytes of chunks. */
  readonly #unused = new Map<number, number>()

  get pushedBytes(): number {
    return this.#pushedBytes
  }

  get unusedBytes(): number {
    let sum = 0
    for (const bytes of this.#unused.values()) sum += bytes
    return sum
  }

  /** `isUsed`: a chunk that somebody has read before, or waits for. */
  came({ level, position, storedBytes }: ObjectHeader, isUsed: boolean): void {
    this.#pushedBytes += storedBytes
    const isUnused = level === CHUNK_LEVEL && storedBytes > 0 && !isUsed
    if (isUnused) this.#unused.set(position, storedBytes)
  }

  /** Somebody reads a chunk. */
  used(firstBlock: number): void {
    this.#unused.delete(firstBlock)
  }
}
