/** Where what lies on a cache partition (FORMAT.md). Pure arithmetic. */
import { invariant } from '#shared/invariant.ts'
import { GiB, KiB, MiB } from '#shared/units.ts'

/** The unit in which metadata is written and may be torn. */
export const PAGE_BYTES: number = 4 * KiB

/** What is written in one go, used up, and given up again: whole erase blocks of most flash. */
export const SEGMENT_BYTES: number = 4 * MiB

/** Objects begin at multiples of this. */
export const UNIT_BYTES = 64
export const SEGMENT_UNITS: number = SEGMENT_BYTES / UNIT_BYTES

/**
 * Pages of the index that a segment has. What start-up reads is 1/256 of the cache. One is always
 * spare, so that a page is never written over by its successor; the others name 609 objects: enough
 * for a mean of 7 KB, and those of a vDisk have 13.
 */
export const INDEX_SLOTS = 4
export const INDEX_PAGES: number = INDEX_SLOTS - 1
export const INDEX_BYTES: number = INDEX_SLOTS * PAGE_BYTES

/** Entries of a page of the use table: 4 bytes a segment behind a header of 32. */
export const USES_PER_PAGE: number = (PAGE_BYTES - 32) / 4

export const SUPERBLOCK_OFFSET = 0
/** Two pages, written in turn. */
export const STATE_OFFSETS: readonly number[] = [PAGE_BYTES, 2 * PAGE_BYTES]
/** The page of agent/identity/FORMAT.md. */
export const IDENTITY_OFFSET: number = 3 * PAGE_BYTES
export const USES_OFFSET: number = 4 * PAGE_BYTES
const DATA_ALIGNMENT: number = MiB

/** Fewer segments could not be told apart by use. */
export const CACHE_BYTES_MIN: number = 64 * MiB

/** Each object costs 12 to 18 bytes of memory: a cache of this size some 170 MB when it is full. */
export const CACHE_BYTES_MAX: number = 128 * GiB

export interface CacheLayout {
  readonly segments: number
  readonly indexOffset: number
  readonly dataOffset: number
  /** Of the second superblock, the last page. */
  readonly copyOffset: number
}

/** `sizeBytes` is that of the partition, at least CACHE_BYTES_MIN; what is beyond CACHE_BYTES_MAX is not used. */
export function layoutOf(sizeBytes: number): CacheLayout {
  invariant(sizeBytes >= CACHE_BYTES_MIN, `a cache of ${sizeBytes} bytes`)
  const copyOffset = Math.floor(sizeBytes / PAGE_BYTES) * PAGE_BYTES - PAGE_BYTES
  const usable = Math.min(copyOffset, CACHE_BYTES_MAX)
  let segments = Math.floor(usable / (SEGMENT_BYTES + INDEX_BYTES))
  while (offsetsOf(segments).dataOffset + segments * SEGMENT_BYTES > usable) segments -= 1
  return { segments, ...offsetsOf(segments), copyOffset }
}

function offsetsOf(segments: number): { indexOffset: number; dataOffset: number } {
  const indexOffset = USES_OFFSET + usePages(segments) * PAGE_BYTES
  const indexEnd = indexOffset + segments * INDEX_BYTES
  return { indexOffset, dataOffset: Math.ceil(indexEnd / DATA_ALIGNMENT) * DATA_ALIGNMENT }
}

export function usePages(segments: number): number {
  return Math.ceil(segments / USES_PER_PAGE)
}

export function indexOffsetOf(layout: CacheLayout, segment: number): number {
  return layout.indexOffset + segment * INDEX_BYTES
}

export function dataOffsetOf(layout: CacheLayout, segment: number): number {
  return layout.dataOffset + segment * SEGMENT_BYTES
}
