/** The segment that is being filled, and the batches its records are collected in. */

import { invariant } from '#shared/invariant.ts'
import type { DiskDevice } from '../local-disk/disk-device.ts'
import {
  type CacheLayout,
  INDEX_PAGES,
  INDEX_SLOTS,
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
import { type FoundPage, readPage } from './segment-index.ts'

/** Each batch begins a page of its own: none is written twice. */
const PAGE_UNITS: number = PAGE_BYTES / UNIT_BYTES

export interface HeadSegment {
  readonly segment: number
  readonly sequence: number
  /** Its pages of the index in order, with all entries so far. */
  readonly pages: Buffer
  /** By page, the slot it is in on the disk. */
  readonly slots: (number | undefined)[]
  /** Slots without a page, the one to be used next first. */
  readonly freeSlots: number[]
  /** Where the next record goes. */
  unit: number
  entries: number
  /** Entries that are on the disk. */
  indexedEntries: number
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
  return {
    segment,
    sequence,
    pages: Buffer.alloc(INDEX_PAGES * PAGE_BYTES),
    slots: [],
    freeSlots: Array.from({ length: INDEX_SLOTS }, (_, slot) => slot),
    unit: 0,
    entries: 0,
    indexedEntries: 0,
  }
}

/** Goes on with a segment as it was found. What a lost page named is lost. */
export function resumeSegment(
  segment: number,
  found: readonly FoundPage[],
  slots: Buffer,
): HeadSegment {
  const head = beginSegment(segment, found[0]?.sequence ?? 0)
  for (const page of found) {
    slots.copy(
      head.pages,
      page.page * PAGE_BYTES,
      page.slot * PAGE_BYTES,
      (page.slot + 1) * PAGE_BYTES,
    )
    head.slots[page.page] = page.slot
    head.freeSlots.splice(head.freeSlots.indexOf(page.slot), 1)
    head.entries = Math.max(head.entries, page.page * ENTRIES_PER_PAGE + page.count)
    readPage(slots, page, (_, unit, units) => {
      head.unit = Math.max(head.unit, unit + units)
    })
  }
  head.indexedEntries = head.entries
  return head
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

/**
 * Writes the pages of the index that have changed, each beside the one it replaces, which is there
 * until the next sync at least. Returns how many bytes that were.
 */
export async function writeIndex(
  head: HeadSegment,
  device: DiskDevice,
  layout: CacheLayout,
  cacheId: Buffer,
): Promise<number> {
  const { segment, sequence, entries } = head
  if (entries === head.indexedEntries) return 0
  const firstPage = Math.floor(head.indexedEntries / ENTRIES_PER_PAGE)
  const endPage = Math.ceil(entries / ENTRIES_PER_PAGE)
  head.indexedEntries = entries
  for (let page = firstPage; page < endPage; page += 1) {
    const count = Math.min(ENTRIES_PER_PAGE, entries - page * ENTRIES_PER_PAGE)
    const bytes = sealIndexPage(head.pages, { segment, sequence, page, count }, cacheId)
    const slot = head.freeSlots.shift()
    invariant(slot !== undefined, `segment ${segment} has no spare slot`)
    const before = head.slots[page]
    if (before !== undefined) head.freeSlots.push(before)
    head.slots[page] = slot
    await device.write(bytes, indexOffsetOf(layout, segment) + slot * PAGE_BYTES)
  }
  return (endPage - firstPage) * PAGE_BYTES
}

/** Batch size: what cheap flash writes well at once. */
export const BATCH_BYTES: number = SEGMENT_BYTES / 4
