/** Reads what is held in a segment that is to be given up, so that it can be written again elsewhere. */
import { HASH_BYTES } from '#shared/manifest/content-hash.ts'
import {
  dataOffsetOf,
  INDEX_BYTES,
  indexOffsetOf,
  SEGMENT_BYTES,
  SEGMENT_UNITS,
  UNIT_BYTES,
} from './cache-layout.ts'
import type { CacheParts } from './cache-parts.ts'
import type { CachedObject } from './disk-cache.ts'
import { entryHash } from './index-page.ts'
import { readRecord } from './record.ts'
import { findPages, readPage } from './segment-index.ts'

export interface HeldObject {
  readonly hash: Buffer
  readonly object: CachedObject
}

/** What is held and cannot be read is dropped. @throws what the device says */
export async function readHeldObjects(parts: CacheParts, segment: number): Promise<HeldObject[]> {
  const { device, layout, index, cacheId } = parts
  const slots = Buffer.alloc(INDEX_BYTES)
  await device.read(slots, indexOffsetOf(layout, segment))
  const data = Buffer.allocUnsafeSlow(SEGMENT_BYTES)
  await device.read(data, dataOffsetOf(layout, segment))
  const held: HeldObject[] = []
  for (const page of findPages(slots, segment, cacheId)) {
    readPage(slots, page, (at, unit, units) => {
      const prefix = entryHash(slots, at)
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
