/** Tells one formatting of a partition from the next: pages of an earlier one are no pages of this. */
import { randomBytes } from 'node:crypto'

/** A random UUID's bytes; metadata pages carry the first 8. */
export const CACHE_ID_BYTES = 16
export const PAGE_ID_BYTES = 8

export function newCacheId(): Buffer {
  return randomBytes(CACHE_ID_BYTES)
}

export function formatCacheId(id: Buffer): string {
  return id.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
