import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  AREA_BYTES_MIN,
  CACHES_MAX,
  DIRECTORY_OFFSETS,
  EXTENT_BYTES,
  extentOffset,
} from '#agent/write-area/area-layout.ts'
import { formatArea, WriteArea } from '#agent/write-area/write-area.ts'
import { KiB } from '#shared/units.ts'
import { PowerLossDisk } from '#test/support/power-loss-disk.ts'

const ID = Buffer.from('0123456789abcdef')
const BOOT = 'b0'.repeat(16)
const NEXT_BOOT = 'b1'.repeat(16)
const SIZE = 10e9

async function createArea(extents = 4) {
  const disk = new PowerLossDisk(AREA_BYTES_MIN + (extents - 2) * EXTENT_BYTES)
  await formatArea(disk, ID)
  return { disk, area: await WriteArea.open(disk) }
}

const dropped = (versionId: string, bootId = BOOT) => ({
  vdisk: 'debian',
  versionId,
  sizeBytes: SIZE,
  bootId,
})
const kept = (versionId: string, vdisk = 'kiosk') => ({ vdisk, versionId, sizeBytes: SIZE })

describe('WriteArea', () => {
  it('hands its extents out one by one, and is found with them when it is opened again', async () => {
    const { disk, area } = await createArea()
    assert.equal(area.freeBytes, 4 * EXTENT_BYTES)
    await area.claim(dropped('aa'), 0)
    for (const expected of [0, 1, 2, 3, undefined]) {
      assert.equal(await area.grow(dropped('aa')), expected)
    }
    const again = await WriteArea.open(disk)
    const cache = await again.claim(dropped('aa'), 0)
    assert.deepEqual(cache, { ...dropped('aa'), table: [], data: [0, 1, 2, 3] })
    assert.equal(again.freeBytes, 0)
  })

  it('gives up what an earlier boot has written, and keeps what is kept', async () => {
    const { area } = await createArea()
    await area.claim(kept('aa'), 0)
    await area.grow(kept('aa'))
    await area.claim(dropped('bb'), 0)
    await area.grow(dropped('bb'))
    await area.claim(dropped('bb', NEXT_BOOT), 0)
    assert.deepEqual(area.caches, [
      { ...kept('aa'), table: [], data: [0] },
      { ...dropped('bb', NEXT_BOOT), table: [], data: [] },
    ])
    await area.drop(kept('aa'))
    assert.equal(area.freeBytes, 4 * EXTENT_BYTES)
  })

  it('gives up what was kept over another version of the vDisk when this one keeps something', async () => {
    const { area } = await createArea()
    await area.claim(kept('aa'), 0)
    await area.claim(kept('aa', 'other'), 0)
    await area.claim(dropped('bb'), 0)
    assert.equal(area.caches.length, 3)
    await area.claim(kept('bb'), 0)
    assert.deepEqual(
      area.caches.map(({ vdisk, versionId }) => `${vdisk} ${versionId}`),
      ['other aa', 'kiosk bb'],
    )
  })

  it('fills a table with zeros before it is one', async () => {
    const { disk, area } = await createArea()
    disk.bytes.fill(0xee, extentOffset(0), extentOffset(2))
    const cache = await area.claim(kept('aa'), 100 * KiB)
    assert.deepEqual(cache.table, [0])
    assert.ok(disk.bytes.subarray(extentOffset(0), extentOffset(1)).every((byte) => byte === 0))
    assert.equal(disk.bytes[extentOffset(1)], 0xee)
  })

  it('refuses a cache when there is no room for its table and some data, or for its name', async () => {
    const { area } = await createArea()
    const full = { code: 'WRITE_AREA_FULL' }
    await assert.rejects(area.claim(kept('aa'), 4 * EXTENT_BYTES), full)
    assert.equal(area.freeBytes, 4 * EXTENT_BYTES)
    for (let number = 0; number < CACHES_MAX; number += 1) {
      await area.claim(kept('aa', `vdisk-${number}`), 0)
    }
    await assert.rejects(area.claim(kept('ff'), 0), /it has 16 write caches already/)
  })

  it('is opened by the copy of its directory that is sound, and refused without one', async () => {
    const { disk, area } = await createArea()
    await area.claim(dropped('aa'), 0) // sequence 2, at the first offset
    await area.grow(dropped('aa'))
    const flip = (at: number) => {
      disk.bytes[at] = (disk.bytes[at] ?? 0) ^ 1
    }
    const [first = 0, second = 0] = DIRECTORY_OFFSETS
    flip(second + 5000)
    assert.deepEqual((await WriteArea.open(disk)).caches[0]?.data, [])
    flip(first + 100)
    await assert.rejects(WriteArea.open(disk), {
      code: 'WRITE_AREA_UNUSABLE',
      message: /its directory is damaged/,
    })
  })

  it('is refused on a disk that has become smaller, or was never formatted', async () => {
    const { disk } = await createArea()
    const smaller = new PowerLossDisk(disk.sizeBytes - EXTENT_BYTES)
    disk.bytes.copy(smaller.bytes, 0, 0, smaller.sizeBytes)
    await assert.rejects(WriteArea.open(smaller), /it was formatted with \d+ bytes, has \d+/)
    await assert.rejects(WriteArea.open(new PowerLossDisk(AREA_BYTES_MIN)), /it is not formatted/)
    await assert.rejects(WriteArea.open(new PowerLossDisk(4096)), /it has only 4096 bytes/)
  })
})
