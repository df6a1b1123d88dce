/** A page of the use table: when each segment was last used. A torn one makes its segments the oldest. */
import { PAGE_BYTES, USES_PER_PAGE } from './cache-layout.ts'
import { isPage, PAGE_FIELDS_OFFSET, PAGE_KIND, sealPage } from './metadata-page.ts'

const ENTRIES_OFFSET = PAGE_FIELDS_OFFSET + 16

/** `uses` has one entry for each segment of the cache. */
export function encodeUses(uses: Uint32Array, pageNumber: number, cacheId: Buffer): Buffer {
  const page = Buffer.alloc(PAGE_BYTES)
  page.writeUInt32BE(pageNumber, PAGE_FIELDS_OFFSET)
  const first = pageNumber * USES_PER_PAGE
  for (const [at, use] of uses.subarray(first, first + USES_PER_PAGE).entries()) {
    page.writeUInt32BE(use, ENTRIES_OFFSET + at * 4)
  }
  sealPage(page, PAGE_KIND.uses, cacheId)
  return page
}

/** Fills the part of `uses` that the page is about. */
export function decodeUses(
  page: Buffer,
  pageNumber: number,
  cacheId: Buffer,
  uses: Uint32Array,
): void {
  if (!isPage(page, PAGE_KIND.uses, cacheId)) return
  if (page.readUInt32BE(PAGE_FIELDS_OFFSET) !== pageNumber) return
  const first = pageNumber * USES_PER_PAGE
  const end = Math.min(first + USES_PER_PAGE, uses.length)
  for (let segment = first; segment < end; segment += 1) {
    uses[segment] = page.readUInt32BE(ENTRIES_OFFSET + (segment - first) * 4)
  }
}
