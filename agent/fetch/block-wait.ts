/** Who waits for blocks of the vDisk, and for which. */

export interface BlockWaiter {
  /**
   * Blocks of the range that are in the RAM tier now, where they may be gone after the call. Each
   * block of the range is told once.
   */
  onBlocks(firstBlock: number, blocks: number): void
  /** The rest never comes. */
  onClosed(error: Error): void
}

/** A part of a range that somebody waits for. */
export interface BlockWait {
  readonly begin: number
  readonly end: number
  readonly waiter: BlockWaiter
  /** When it was wanted, on the clock of first reads. */
  readonly wantedAtMs: number
}

/** Tells a waiter of the blocks that are his. */
export function tell(wait: BlockWait, firstBlock: number, blocks: number): void {
  const begin = Math.max(wait.begin, firstBlock)
  const end = Math.min(wait.end, firstBlock + blocks)
  if (end > begin) wait.waiter.onBlocks(begin, end - begin)
}
