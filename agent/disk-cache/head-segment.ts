/** The segment that is being filled, and the batches its records are collected in. */

import type { CacheDevice } from './cache-device.ts'
import {
  type CacheLayout,
  INDEX_BYTES,
  indexOffsetOf,
  PAGE_BYTES,
  SEGMENT_BYTES,
  SEGMENT_UNITS,
  UNIT_BYTES,
} from './cache-layout.ts'
import type { CachedObject } from './disk-cache.ts'
import { ENTRIES_MAX, ENTRIES_PER_PAGE, sealIndexPage, writeEntry } from './index-page.ts'
import type { Place } from './object-table.ts'
import { recordUnits, writeRecord } from './record.ts'

/** Each batch begins a page of its own: none is written twice. */
const PAGE_UNITS: number = PAGE_BYTES / UNIT_BYTES

export interface HeadSegment {
  readonly segment: number
  readonly sequence: number
  /** Its pages of the index, with all entries so far. */
  readonly pages: Buffer
  /** Where the next record goes. */
  unit: number
  entries: number
  /** Entries that are on the disk. */
  indexedEntries: number
  /** Nothing is added to it any more. */
  isEnded: boolean
}

/** Records that are written together. */
export interface Batch {
  readonly head: HeadSegment
  readonly buffer: Buffer
  readonly firstUnit: number
  readonly firstEntry: number
  usedUnits: number
}

export function beginSegment(segment: number, sequence: number): HeadSegment {
  const pages = Buffer.alloc(INDEX_BYTES)
  return { segment, sequence, pages, unit: 0, entries: 0, indexedEntries: 0, isEnded: false }
}

export function beginBatch(head: HeadSegment, buffer: Buffer): Batch {
  head.unit = Math.ceil(head.unit / PAGE_UNITS) * PAGE_UNITS
  return {
    head,
    buffer,
    firstUnit: head.unit,
    firstEntry: head.entries,
    usedUnits: 0,
  }
}

export function hasRoom(head: HeadSegment, units: number): boolean {
  // A new batch may begin up to a page further on.
  return head.unit + PAGE_UNITS + units <= SEGMENT_UNITS && head.entries < ENTRIES_MAX
}

export function fits({ buffer, usedUnits }: Batch, units: number): boolean {
  return (usedUnits + units) * UNIT_BYTES <= buffer.length
}

/** Copies the object to the end of the batch. */
export function appendRecord(batch: Batch, hash: Uint8Array, object: CachedObject): Place {
  const { head, buffer } = batch
  const units = recordUnits(object.payload.length)
  writeRecord(buffer, batch.usedUnits * UNIT_BYTES, hash, object)
  writeEntry(head.pages, head.entries, hash, head.unit, units)
  const place = { location: head.segment * SEGMENT_UNITS + head.unit, units }
  batch.usedUnits += units
  head.unit += units
  head.entries += 1
  return place
}

/** The bytes of a batch as they are to be written: whole pages, zeros at the end. */
export function batchBytes({ buffer, usedUnits }: Batch): Buffer {
  const used = usedUnits * UNIT_BYTES
  const end = Math.ceil(used / PAGE_BYTES) * PAGE_BYTES
  buffer.fill(0, used, end)
  return buffer.subarray(0, end)
}

/** The record at a location if it is in the batch. */
export function recordIn(batch: Batch, { location, units }: Place): Buffer | undefined {
  const from = location - batch.head.segment * SEGMENT_UNITS - batch.firstUnit
  if (from < 0 || from + units > batch.usedUnits) return undefined
  return batch.buffer.subarray(from * UNIT_BYTES, (from + units) * UNIT_BYTES)
}

/** Writes the pages of the index that have changed. Returns how many bytes that were. */
export async function writeIndex(
  head: HeadSegment,
  device: CacheDevice,
  layout: CacheLayout,
  cacheId: Buffer,
): Promise<number> {
  const { segment, sequence, entries } = head
  const firstPage = Math.floor(head.indexedEntries / ENTRIES_PER_PAGE)
  const endPage = Math.ceil(entries / ENTRIES_PER_PAGE)
  if (entries === head.indexedEntries) return 0
  for (let page = firstPage; page < endPage; page += 1) {
    const count = Math.min(ENTRIES_PER_PAGE, entries - page * ENTRIES_PER_PAGE)
    sealIndexPage(head.pages, { segment, sequence, page, count }, cacheId)
  }
  const bytes = Buffer.from(head.pages.subarray(firstPage * PAGE_BYTES, endPage * PAGE_BYTES))
  head.indexedEntries = entries
  await device.write(bytes, indexOffsetOf(layout, segment) + firstPage * PAGE_BYTES)
  return bytes.length
}

/** Batch size: what cheap flash writes well at once. */
export const BATCH_BYTES: number = SEGMENT_BYTES / 4
