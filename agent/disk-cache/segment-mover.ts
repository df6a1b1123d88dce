/** Reads what is held in a segment that is to be given up, so that it can be written again elsewhere. */
import { HASH_BYTES } from '#shared/manifest/content-hash.ts'
import {
  dataOffsetOf,
  INDEX_BYTES,
  INDEX_PAGES,
  indexOffsetOf,
  SEGMENT_BYTES,
  SEGMENT_UNITS,
  UNIT_BYTES,
} from './cache-layout.ts'
import type { CacheParts } from './cache-parts.ts'
import type { CachedObject } from './disk-cache.ts'
import { ENTRIES_PER_PAGE, openIndexPage, readEntries } from './index-page.ts'
import { readRecord } from './record.ts'

export interface HeldObject {
  readonly hash: Buffer
  readonly object: CachedObject
}

/** What is held and cannot be read is dropped. @throws what the device says */
export async function readHeldObjects(parts: CacheParts, segment: number): Promise<HeldObject[]> {
  const { device, layout, index, cacheId } = parts
  const pages = Buffer.alloc(INDEX_BYTES)
  await device.read(pages, indexOffsetOf(layout, segment))
  const data = Buffer.allocUnsafeSlow(SEGMENT_BYTES)
  await device.read(data, dataOffsetOf(layout, segment))
  const held: HeldObject[] = []
  for (let page = 0; page < INDEX_PAGES; page += 1) {
    const header = openIndexPage(pages, segment, page, cacheId)
    if (header === undefined) continue
    const first = page * ENTRIES_PER_PAGE
    readEntries(pages, first, first + header.count, (prefix, unit, units) => {
      const location = segment * SEGMENT_UNITS + unit
      if (!index.isAt(prefix, { location, units }) || !index.isHeld(prefix)) return
      const record = data.subarray(unit * UNIT_BYTES, (unit + units) * UNIT_BYTES)
      const hash = record.subarray(0, HASH_BYTES)
      const object = hash.subarray(0, prefix.length).equals(prefix) && readRecord(record, hash)
      if (object) held.push({ hash, object })
      else index.drop(prefix)
    })
  }
  return held
}
