/**
 * What all pages of metadata begin with: a checksum over the rest, a kind, and the cache they belong
 * to. A page that was torn, or written by an earlier formatting, is as one that was never written.
 */
import { crc32 } from 'node:zlib'
import { PAGE_ID_BYTES } from './cache-id.ts'
import { PAGE_BYTES } from './cache-layout.ts'

/** The ASCII of `bwix`, `bwst` and `bwus`. */
export const PAGE_KIND = { index: 0x62776978, state: 0x62777374, uses: 0x62777573 } as const
export type PageKind = (typeof PAGE_KIND)[keyof typeof PAGE_KIND]

/** Behind checksum, kind and cache. */
export const PAGE_FIELDS_OFFSET = 16

/** To be called when the fields are in place. */
export function sealPage(page: Buffer, kind: PageKind, cacheId: Buffer): void {
  page.writeUInt32BE(kind, 4)
  cacheId.copy(page, 8, 0, PAGE_ID_BYTES)
  page.writeUInt32BE(crc32(page.subarray(4, PAGE_BYTES)), 0)
}

export function isPage(page: Buffer, kind: PageKind, cacheId: Buffer): boolean {
  // Most pages that are none were never written: look before the checksum.
  if (page.readUInt32BE(4) !== kind) return false
  if (page.compare(cacheId, 0, PAGE_ID_BYTES, 8, 8 + PAGE_ID_BYTES) !== 0) return false
  return page.readUInt32BE(0) === crc32(page.subarray(4, PAGE_BYTES))
}
