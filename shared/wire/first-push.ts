/** What of its boot list the server pushes without being asked, reckoned alike by both sides. */
import type { BootListEntry } from './frame.ts'

/** Number of entries at the list's beginning whose stored bytes add up to at most `bytes`. */
export function firstPushCount(entries: readonly BootListEntry[], bytes: number): number {
  let leftBytes = bytes
  for (const [index, { storedBytes }] of entries.entries()) {
    leftBytes -= storedBytes
    if (leftBytes < 0) return index
  }
  return entries.length
}
