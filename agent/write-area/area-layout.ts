/** Where what lies on a write area (FORMAT.md). Pure arithmetic. */
import { invariant } from '#shared/invariant.ts'
import { KiB, MiB } from '#shared/units.ts'

/** What a write cache grows by. */
export const EXTENT_BYTES: number = 32 * MiB

/** Entries of the directory: an area of 64 GiB, as much as one write cache can name. */
export const EXTENTS_MAX = 2048

/** Write caches that lie beside one another. */
export const CACHES_MAX = 16

export const HEAD_BYTES: number = 4 * KiB
export const EXTENT_ENTRY_BYTES = 4
export const DIRECTORY_BYTES: number = HEAD_BYTES + EXTENTS_MAX * EXTENT_ENTRY_BYTES

/** Two copies of the directory, written in turn. */
export const DIRECTORY_OFFSETS: readonly number[] = [0, 16 * KiB]

export const DATA_OFFSET: number = MiB

/** An extent for data and one for a table. */
export const AREA_BYTES_MIN: number = DATA_OFFSET + 2 * EXTENT_BYTES

/** `sizeBytes` is that of the partition, at least AREA_BYTES_MIN; what is beyond EXTENTS_MAX is not used. */
export function extentCount(sizeBytes: number): number {
  invariant(sizeBytes >= AREA_BYTES_MIN, `a write area of ${sizeBytes} bytes`)
  return Math.min(EXTENTS_MAX, Math.floor((sizeBytes - DATA_OFFSET) / EXTENT_BYTES))
}

/** Where an extent begins on the partition. */
export function extentOffset(extent: number): number {
  return DATA_OFFSET + extent * EXTENT_BYTES
}

/** How many extents hold so many bytes. */
export function extentsFor(bytes: number): number {
  return Math.ceil(bytes / EXTENT_BYTES)
}
