import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, it } from 'node:test'
import { BLOCKS_MAX, SECTOR_BYTES } from '#agent/block/block-size.ts'
import { ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { CUT_TODAY } from '#shared/manifest/version-root.ts'
import { KiB, MiB } from '#shared/units.ts'
import { eventually } from '#test/support/eventually.ts'
import { MemorySink } from '#test/support/memory-sink.ts'
import { CHUNK_BYTES, createOverlay, numberedImage } from './overlay-fixture.ts'

const emptyRoot = (sizeBytes: number) => ({ sizeBytes, cut: CUT_TODAY, rootHash: ZERO_HASH })

describe('openOverlay', () => {
  it('serves a vDisk whose size is no multiple of a sector, but for its last few bytes', async () => {
    for (const extraBytes of [1, 511, 512, 700, BLOCK_BYTES - 1]) {
      await using fixture = await createOverlay({}, numberedImage(2 * CHUNK_BYTES + extraBytes))
      const { cold, transport, image, overlay } = fixture
      const sizeBytes = image.length - (image.length % SECTOR_BYTES)
      assert.equal(overlay.device.sizeBytes, sizeBytes)
      const target = Buffer.alloc(sizeBytes)
      const read = cold.read(0, target)
      transport.answerAll()
      await read
      assert.ok(target.equals(image.subarray(0, sizeBytes)), `${extraBytes} bytes more`)
      const sink = new MemorySink()
      const hot = fixture.openHot()
      assert.ok(hot.read(sizeBytes - SECTOR_BYTES, SECTOR_BYTES, sink))
      assert.ok(sink.bytes().equals(image.subarray(sizeBytes - SECTOR_BYTES, sizeBytes)))
      assert.ok(hot.write(sizeBytes - SECTOR_BYTES, Buffer.alloc(SECTOR_BYTES, 'w'), false))
      assert.ok(hot.trim(0, sizeBytes, false))
      assert.throws(() => hot.read(sizeBytes, SECTOR_BYTES, new MemorySink()), { name: 'NbdError' })
    }
  })

  it('opens a vDisk of 100 GB without taking memory for it', async () => {
    const rssBytes = process.memoryUsage.rss()
    await using fixture = await createOverlay({ root: emptyRoot(100e9) })
    const hot = fixture.openHot()
    const end = fixture.overlay.device.sizeBytes
    assert.ok(hot.write(end - MiB, Buffer.alloc(MiB, 'w'), false))
    const sink = new MemorySink()
    assert.ok(hot.read(end - MiB, MiB, sink))
    assert.ok(sink.bytes().equals(Buffer.alloc(MiB, 'w')))
    // Its two indexes would be 200 MB.
    assert.ok(process.memoryUsage.rss() - rssBytes < 64 * MiB)
  })

  it('refuses a vDisk beyond what block numbers reach', async () => {
    const sizeBytes = BLOCKS_MAX * BLOCK_BYTES + SECTOR_BYTES
    await assert.rejects(createOverlay({ root: emptyRoot(sizeBytes), readOnly: true }), {
      code: 'VDISK_TOO_LARGE',
      message: /expected at most 8.00 TiB/,
    })
  })

  it('says that there is no memory for the RAM tier', async () => {
    await assert.rejects(createOverlay({ ramTierBytes: 2 ** 53 }), {
      code: 'CLIENT_MEMORY',
      message: /there is no memory for it/,
    })
  })

  it('takes the smallest RAM tier when it is given a smaller one', async () => {
    await using fixture = await createOverlay({ ramTierBytes: 0 })
    assert.equal(fixture.overlay.stats().ramTierBytes, 4 * MiB)
  })

  it('makes no folder when it is read-only', async () => {
    const writeCacheFolder = '/nowhere/write-cache'
    await using fixture = await createOverlay({ readOnly: true, writeCacheFolder })
    assert.ok(fixture.overlay.device.readOnly)
    assert.ok(!existsSync('/nowhere'))
  })

  it('tells each time the write cache is filled to a level', async () => {
    await using fixture = await createOverlay({ writeCacheLimitBytes: 80 * KiB })
    const { notices } = fixture
    const hot = fixture.openHot()
    hot.write(0, Buffer.alloc(60 * KiB, 'w'), false)
    await eventually('a notice of 75 %', () => notices.length === 1)
    hot.write(64 * KiB, Buffer.alloc(12 * KiB, 'w'), false)
    await eventually('a notice of 90 %', () => notices.length === 2)
    hot.trim(0, 60 * KiB, false)
    hot.write(0, Buffer.alloc(60 * KiB, 'w'), false)
    const limitBytes = 76 * KiB // without the reserve
    assert.deepEqual(notices.slice(0, 2), [
      { kind: 'write-cache-filling', percent: 75, usedBytes: 60 * KiB, limitBytes },
      { kind: 'write-cache-filling', percent: 90, usedBytes: 72 * KiB, limitBytes },
    ])
  })
})
