/** A page of the index: which objects lie where in one segment. */
import { invariant } from '#shared/invariant.ts'
import { INDEX_PAGES, PAGE_BYTES, SEGMENT_UNITS } from './cache-layout.ts'
import { isPage, PAGE_FIELDS_OFFSET, PAGE_KIND, sealPage } from './metadata-page.ts'

/** Of an object's hash, what the index keeps; the record has all of it. */
export const INDEX_HASH_BYTES = 16
const ENTRY_BYTES = INDEX_HASH_BYTES + 4
const ENTRIES_OFFSET = PAGE_FIELDS_OFFSET + 16
export const ENTRIES_PER_PAGE: number = Math.floor((PAGE_BYTES - ENTRIES_OFFSET) / ENTRY_BYTES)
export const ENTRIES_MAX: number = ENTRIES_PER_PAGE * INDEX_PAGES

export interface IndexPageHeader {
  readonly segment: number
  /** Grows with each segment that is begun: of two pages, the older is of what was there before. */
  readonly sequence: number
  /** Which entries it has; of two such pages the one with more is the newer. */
  readonly page: number
  readonly count: number
}

/** Entry number `entry` of a segment whose index is `pages`. */
export function writeEntry(
  pages: Buffer,
  entry: number,
  hash: Uint8Array,
  unit: number,
  units: number,
): void {
  const at = entryOffset(entry)
  pages.set(hash.subarray(0, INDEX_HASH_BYTES), at)
  pages.writeUInt16BE(unit, at + INDEX_HASH_BYTES)
  pages.writeUInt16BE(units, at + INDEX_HASH_BYTES + 2)
}

/**
 * Calls with where in `pages` the hash is, as far as it is known. Entries that reach beyond the segment
 * are left out.
 */
export function readEntries(
  pages: Buffer,
  from: number,
  to: number,
  onEntry: (hashAt: number, unit: number, units: number) => void,
): void {
  for (let entry = from; entry < to; entry += 1) {
    const at = entryOffset(entry)
    const unit = pages.readUInt16BE(at + INDEX_HASH_BYTES)
    const units = pages.readUInt16BE(at + INDEX_HASH_BYTES + 2)
    if (units === 0 || unit + units > SEGMENT_UNITS) continue
    onEntry(at, unit, units)
  }
}

/** Returns a page whose entries are in place in `pages`, as it is to be written. */
export function sealIndexPage(pages: Buffer, header: IndexPageHeader, cacheId: Buffer): Buffer {
  const from = header.page * PAGE_BYTES
  const page = Buffer.from(pages.subarray(from, from + PAGE_BYTES))
  invariant(header.count <= ENTRIES_PER_PAGE, `${header.count} entries in a page of the index`)
  page.writeUInt32BE(header.segment, PAGE_FIELDS_OFFSET)
  page.writeUInt32BE(header.sequence, PAGE_FIELDS_OFFSET + 4)
  page.writeUInt16BE(header.page, PAGE_FIELDS_OFFSET + 8)
  page.writeUInt16BE(header.count, PAGE_FIELDS_OFFSET + 10)
  sealPage(page, PAGE_KIND.index, cacheId)
  return page
}

/** `page` is one of the segment's slots. Returns undefined for what is no page of this segment. */
export function openIndexPage(
  page: Buffer,
  segment: number,
  cacheId: Buffer,
): IndexPageHeader | undefined {
  if (!isPage(page, PAGE_KIND.index, cacheId)) return undefined
  const header = {
    segment: page.readUInt32BE(PAGE_FIELDS_OFFSET),
    sequence: page.readUInt32BE(PAGE_FIELDS_OFFSET + 4),
    page: page.readUInt16BE(PAGE_FIELDS_OFFSET + 8),
    count: page.readUInt16BE(PAGE_FIELDS_OFFSET + 10),
  }
  const isOfHere = header.segment === segment && header.page < INDEX_PAGES
  return isOfHere && header.count <= ENTRIES_PER_PAGE ? header : undefined
}

export function entryHash(pages: Buffer, at: number): Buffer {
  return pages.subarray(at, at + INDEX_HASH_BYTES)
}

function entryOffset(entry: number): number {
  const page = Math.floor(entry / ENTRIES_PER_PAGE)
  return page * PAGE_BYTES + ENTRIES_OFFSET + (entry % ENTRIES_PER_PAGE) * ENTRY_BYTES
}
