/** Parts of the disk cache against simple models, and against bytes of any kind. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  CACHE_BYTES_MIN,
  layoutOf,
  SEGMENT_BYTES,
  UNIT_BYTES,
} from '#agent/disk-cache/cache-layout.ts'
import { formatCache } from '#agent/disk-cache/format-cache.ts'
import { ObjectTable } from '#agent/disk-cache/object-table.ts'
import { openDiskCache } from '#agent/disk-cache/open-disk-cache.ts'
import { planRuns, RUN_BYTES_MAX } from '#agent/disk-cache/read-runs.ts'
import { readRecord, recordUnits, writeRecord } from '#agent/disk-cache/record.ts'
import { WriteBudget } from '#agent/disk-cache/write-budget.ts'
import { decodeGuid, encodeGuid } from '#agent/local-disk/gpt.ts'
import { contentHash } from '#shared/manifest/content-hash.ts'
import { GiB, MiB } from '#shared/units.ts'
import { readAll, testObject } from '#test/support/disk-cache-objects.ts'
import { FaultyDisk } from '#test/support/faulty-disk.ts'

/** Few hashes that begin alike, so that probing, growing and closing holes all happen. */
function hashOf(key: number): Uint8Array {
  const hash = contentHash(Buffer.from(`key ${key}`))
  hash[4] = key % 3
  if (key % 2 === 0) hash.fill(0xff, 0, 3)
  return hash
}

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('add' as const), key: fc.nat(400) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('delete' as const), key: fc.nat(400) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('hold' as const), key: fc.nat(400) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('range' as const), key: fc.nat(900) }) },
)

describe('ObjectTable', () => {
  it('finds what a map finds, through growing, holes and ranges', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 500, size: 'max' }), (steps) => {
        const table = new ObjectTable()
        const model = new Map<number, { location: number; units: number; isHeld: boolean }>()
        for (const [index, { kind, key }] of steps.entries()) {
          const hash = hashOf(key)
          if (kind === 'add') {
            const place = { location: index * 3, units: (key % 2000) + 1, isHeld: false }
            assert.equal(table.add(hash, place.location, place.units), !model.has(key))
            if (!model.has(key)) model.set(key, place)
          } else if (kind === 'delete') {
            table.delete(hash)
            model.delete(key)
          } else if (kind === 'hold') {
            const place = model.get(key)
            assert.equal(table.hold(hash), place !== undefined && !place.isHeld)
            if (place !== undefined) place.isHeld = true
          } else {
            for (const _ of table.deleteRange(key, key + 200));
            for (const [each, { location }] of model) {
              if (location >= key && location < key + 200) model.delete(each)
            }
          }
        }
        assert.equal(table.size, model.size)
        for (let key = 0; key <= 400; key += 1) {
          const place = model.get(key)
          const expected = place && { location: place.location, units: place.units }
          assert.deepEqual(table.get(hashOf(key)), expected)
          assert.equal(table.isHeld(hashOf(key)), place?.isHeld ?? false)
        }
      }),
      { numRuns: 100 },
    )
  })

  it('takes at most 18 bytes for an object', () => {
    const table = new ObjectTable()
    for (let key = 0; key < 200_000; key += 1) {
      table.add(contentHash(Buffer.from(String(key))), key, 1)
      if (key > 50_000 && key % 10_000 === 0) assert.ok(table.bytes / table.size < 18.5)
    }
  })
})

describe('planRuns', () => {
  it('reads every object whole, in pieces that are not too long, and none twice', () => {
    const object = fc.record({
      location: fc.nat(200_000),
      units: fc.integer({ min: 1, max: 2177 }),
    })
    fc.assert(
      fc.property(fc.array(object, { maxLength: 60 }), (places) => {
        const wanted = places.map((place, index) => ({ ...place, index }))
        const runs = planRuns(wanted)
        const indexes = runs.flatMap(({ objects }) => objects.map(({ index }) => index))
        assert.deepEqual(
          indexes.toSorted((a, b) => a - b),
          [...wanted.keys()],
        )
        for (const { offset, length, objects } of runs) {
          assert.ok(length <= RUN_BYTES_MAX)
          for (const { location, units } of objects) {
            assert.ok(location * UNIT_BYTES >= offset)
            assert.ok((location + units) * UNIT_BYTES <= offset + length)
          }
        }
      }),
    )
  })
})

describe('records', () => {
  it('are what was written, and nothing else when any byte of their header changes', () => {
    fc.assert(
      fc.property(
        fc.nat(5_000),
        fc.nat(39),
        fc.integer({ min: 1, max: 255 }),
        (length, at, change) => {
          const object = testObject(length, length)
          const record = Buffer.alloc(recordUnits(length) * UNIT_BYTES, 0xaa)
          writeRecord(record, 0, object.hash, object)
          const { encoding, rawBytes, payload } = object
          assert.deepEqual(readRecord(record, object.hash), {
            encoding,
            rawBytes,
            payload: Buffer.from(payload),
          })
          record[at] = (record[at] ?? 0) ^ change
          const found = readRecord(record, object.hash)
          // What is left of a wrong length or encoding is for the content's hash to see.
          if (at < 32) assert.equal(found, undefined)
          else assert.ok(found === undefined || found.payload.length <= record.length)
        },
      ),
    )
  })
})

describe('layoutOf', () => {
  it('fits into the partition, and uses nearly all of it', () => {
    fc.assert(
      fc.property(fc.integer({ min: CACHE_BYTES_MIN, max: 300 * GiB }), (sizeBytes) => {
        const { segments, indexOffset, dataOffset, copyOffset } = layoutOf(sizeBytes)
        const dataEnd = dataOffset + segments * SEGMENT_BYTES
        assert.ok(indexOffset + segments * 16_384 <= dataOffset)
        assert.ok(dataEnd <= copyOffset && copyOffset + 4096 <= sizeBytes)
        assert.ok(segments * SEGMENT_BYTES <= 128 * GiB)
        if (sizeBytes < 128 * GiB) assert.ok(sizeBytes - dataEnd < 2 * SEGMENT_BYTES)
        assert.ok(dataOffset < MiB * 3 + sizeBytes / 200)
      }),
    )
  })
})

describe('WriteBudget', () => {
  it('never lets more be written than it began with and earned', () => {
    const event = fc.record({ waitMs: fc.nat(3_600_000), bytes: fc.nat(1_000_000) })
    fc.assert(
      fc.property(
        fc.nat(5_000_000),
        fc.nat(50_000_000),
        fc.array(event),
        (left, perDay, events) => {
          let nowMs = 0
          const budget = new WriteBudget(
            { bytesPerDay: perDay, maxBytes: 5_000_000 },
            left,
            () => nowMs,
          )
          let written = 0
          for (const { waitMs, bytes } of events) {
            nowMs += waitMs
            assert.ok(budget.leftBytes <= 5_000_000)
            if (budget.take(bytes)) written += bytes
          }
          assert.ok(written <= left + (perDay * nowMs) / 86_400_000 + 1)
        },
      ),
    )
  })
})

describe('GUIDs', () => {
  it('come back as they were', () => {
    fc.assert(fc.property(fc.uuid(), (guid) => assert.equal(decodeGuid(encodeGuid(guid)), guid)))
  })
})

describe('a cache with bytes changed anywhere in its metadata', () => {
  const objects = Array.from({ length: 300 }, (_, index) => testObject(index, 1_000 + index * 37))
  const { dataOffset } = layoutOf(CACHE_BYTES_MIN)
  let sound: Buffer | undefined

  async function soundBytes(): Promise<Buffer> {
    if (sound !== undefined) return sound
    const disk = new FaultyDisk(CACHE_BYTES_MIN)
    await formatCache(disk)
    const cache = await openCache(disk)
    for (const object of objects) cache.keep(object.hash, object)
    await cache.close()
    sound = Buffer.from(disk.bytes)
    return sound
  }

  function openCache(device: FaultyDisk) {
    return openDiskCache({ device, onProblem: () => undefined, hasServer: () => true })
  }

  it('opens with what is right, or is refused, and takes new objects', async () => {
    const change = fc.record({
      // Metadata in use is at the beginning, and at the first segment's index.
      at: fc.oneof(fc.nat(9_000), fc.nat(60_000), fc.nat(dataOffset - 1)),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 20 }), async (changes) => {
        const disk = new FaultyDisk(CACHE_BYTES_MIN)
        ;(await soundBytes()).copy(disk.bytes)
        for (const { at, bytes } of changes) disk.bytes.set(bytes, at)
        const cache = await openCache(disk).catch((error: unknown) => {
          assert.equal((error as { code?: string }).code, 'CACHE_UNUSABLE')
          return undefined
        })
        if (cache === undefined) return
        await readAll(cache, objects) // throws when one is wrong
        const fresh = testObject(9_999, 5_000)
        if (cache.keep(fresh.hash, fresh)) assert.deepEqual(await readAll(cache, [fresh]), [true])
        await cache.close()
      }),
      { numRuns: 30 },
    )
  })
})
