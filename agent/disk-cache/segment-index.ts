/** The index of one segment as it is found on the disk: of the pages in its slots those that count. */
import { INDEX_PAGES, INDEX_SLOTS, PAGE_BYTES } from './cache-layout.ts'
import { ENTRIES_PER_PAGE, type IndexPageHeader, openIndexPage, readEntries } from './index-page.ts'

export interface FoundPage extends IndexPageHeader {
  readonly slot: number
}

/** `slots` are those of the segment. Pages of an older sequence are of what was there before. */
export function findPages(slots: Buffer, segment: number, cacheId: Buffer): FoundPage[] {
  const best: (FoundPage | undefined)[] = Array.from({ length: INDEX_PAGES })
  let sequence = 0
  for (let slot = 0; slot < INDEX_SLOTS; slot += 1) {
    const bytes = slots.subarray(slot * PAGE_BYTES, (slot + 1) * PAGE_BYTES)
    const header = openIndexPage(bytes, segment, cacheId)
    if (header === undefined || header.sequence < sequence) continue
    if (header.sequence > sequence) best.fill(undefined)
    sequence = header.sequence
    const before = best[header.page]
    if (before === undefined || before.count < header.count) best[header.page] = { ...header, slot }
  }
  return best.filter((page) => page !== undefined)
}

/** Calls with where in `slots` the hash of each entry is. */
export function readPage(
  slots: Buffer,
  { slot, count }: FoundPage,
  onEntry: (hashAt: number, unit: number, units: number) => void,
): void {
  const first = slot * ENTRIES_PER_PAGE
  readEntries(slots, first, first + count, onEntry)
}
