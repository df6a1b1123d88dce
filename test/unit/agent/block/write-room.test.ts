import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { constants } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { HotOverlay } from '#agent/block/hot-overlay.ts'
import type { ColdDevice } from '#agent/node-nbd/block-device.ts'
import { AREA_BYTES_MIN, EXTENT_BYTES } from '#agent/write-area/area-layout.ts'
import type { AreaShare } from '#agent/write-area/area-share.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { KiB, MiB } from '#shared/units.ts'
import { eventually } from '#test/support/eventually.ts'
import { MemorySink } from '#test/support/memory-sink.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { createOverlay, numberedImage } from './overlay-fixture.ts'

const { EIO, ENOSPC } = constants.errno
const LIMIT = 80 * KiB // with a reserve of one block

const blocks = (count: number, fill: string) => Buffer.alloc(count * BLOCK_BYTES, fill)

/** A file as a write area, whose extents are given out from the last to the first. */
async function createShare(extents: number, fails = false): Promise<AreaShare & AsyncDisposable> {
  const temporary = await createTemporaryFolder()
  const path = join(temporary.path, 'area')
  const file = await open(path, 'w')
  await file.truncate(AREA_BYTES_MIN + extents * EXTENT_BYTES)
  await file.close()
  let left = extents
  const data: number[] = []
  return {
    path,
    table: [],
    data,
    capacityBytes: extents * EXTENT_BYTES,
    grow: async () => {
      if (fails) throw new Error('the disk is gone')
      if (left === 0) return undefined
      left -= 1
      data.push(left)
      return left
    },
    [Symbol.asyncDispose]: () => temporary[Symbol.asyncDispose](),
  }
}

/** A write to what the worker could not do at once. */
async function coldWrite(
  { cold }: { readonly cold: ColdDevice },
  hot: HotOverlay,
  block: number,
  bytes: Buffer,
): Promise<'hot' | 'cold'> {
  if (hot.write(block * BLOCK_BYTES, bytes, false)) return 'hot'
  await cold.write(block * BLOCK_BYTES, bytes, false)
  return 'cold'
}

function read(hot: HotOverlay, offset: number, length: number): Buffer {
  const sink = new MemorySink()
  assert.ok(hot.read(offset, length, sink))
  return sink.bytes()
}

describe('WriteRoom', () => {
  it('has a write wait until something is trimmed, while others go on', async () => {
    await using fixture = await createOverlay({ writeCacheLimitBytes: LIMIT })
    const { cold, overlay, notices } = fixture
    const hot = fixture.openHot()
    assert.ok(hot.write(0, blocks(18, 'a'), false))
    const late = coldWrite(fixture, hot, 40, blocks(4, 'b'))
    await eventually('it waits', () => overlay.stats().writesWaiting === 1)
    assert.ok(hot.write(0, blocks(2, 'c'), false), 'what has room already goes on')
    await cold.trim(2 * BLOCK_BYTES, 8 * BLOCK_BYTES, false)
    await late
    assert.equal(overlay.stats().writesWaiting, 0)
    assert.deepEqual(read(hot, 40 * BLOCK_BYTES, 4 * BLOCK_BYTES), blocks(4, 'b'))
    assert.deepEqual(read(hot, 0, 2 * BLOCK_BYTES), blocks(2, 'c'))
    assert.ok(notices.some((it) => it.kind === 'write-cache-filling' && it.percent === 100))
  })

  it('opens the reserve when the system goes down, and fails what still finds no room', async () => {
    await using fixture = await createOverlay({ writeCacheLimitBytes: LIMIT })
    const { cold, overlay } = fixture
    const hot = fixture.openHot()
    assert.ok(hot.write(0, blocks(19, 'a'), false))
    const waiting = coldWrite(fixture, hot, 40, blocks(1, 'b'))
    await eventually('it waits', () => overlay.stats().writesWaiting === 1)
    overlay.goDown()
    await waiting
    const never = cold.write(50 * BLOCK_BYTES, blocks(1, 'c'), false)
    await eventually('it waits', () => overlay.stats().writesWaiting === 1)
    overlay.failWaiting()
    await assert.rejects(never, { errno: ENOSPC })
    await assert.rejects(cold.write(50 * BLOCK_BYTES, blocks(1, 'c'), false), { errno: ENOSPC })
    assert.ok(hot.write(0, blocks(1, 'd'), false), 'what has room already goes on')
  })

  it('fails reads that wait for a server, and leaves their memory alone when it comes', async () => {
    await using fixture = await createOverlay()
    const { cold, transport, overlay } = fixture
    const target = blocks(1, 'x')
    const waiting = cold.read(0, target)
    overlay.failWaiting()
    await assert.rejects(waiting, { errno: EIO })
    transport.answerAll()
    await eventually('the chunk is here', () => overlay.stats().chunksReceived > 0)
    assert.deepEqual(target, blocks(1, 'x'))
    await cold.read(0, target)
    assert.deepEqual(target, fixture.image.subarray(0, BLOCK_BYTES))
  })

  it('goes on in the write area, extent by extent, and finds all of it again', async () => {
    const sizeBytes = 2.5 * EXTENT_BYTES
    await using share = await createShare(3)
    await using fixture = await createOverlay(
      { writeCacheLimitBytes: LIMIT, writeCacheShare: share },
      numberedImage(sizeBytes),
    )
    const hot = fixture.openHot()
    const pattern = Buffer.from(Array.from({ length: MiB }, (_, at) => (at * 7) % 253))
    const ways = new Set<string>()
    for (let at = 0; at < sizeBytes; at += MiB) {
      pattern.writeUInt32BE(at)
      ways.add(await coldWrite(fixture, hot, at / BLOCK_BYTES, pattern))
    }
    assert.deepEqual([...ways].sort(), ['cold', 'hot'])
    const second = fixture.openHot()
    const target = Buffer.alloc(MiB)
    for (let at = 0; at < sizeBytes; at += MiB) {
      pattern.writeUInt32BE(at)
      assert.ok(read(second, at, MiB).equals(pattern), `at ${at}`)
      await fixture.cold.read(at, target)
      assert.ok(target.equals(pattern), `cold at ${at}`)
    }
    for (const reader of [hot, second]) reader.idle()
    // Given up and given again, across the border of memory and disk.
    await fixture.cold.trim(0, sizeBytes, false)
    assert.equal(fixture.overlay.stats().writeCacheBytes, 0)
    assert.ok(hot.write(0, pattern, false))
    assert.ok(read(second, 0, MiB).equals(pattern))
  })

  it('is found in memory and on the disk by the agent that comes after one that was killed', async () => {
    const sizeBytes = 2.5 * EXTENT_BYTES
    await using temporary = await createTemporaryFolder()
    await using share = await createShare(3)
    const options = {
      writeCacheLimitBytes: LIMIT,
      writeCacheShare: share,
      writeCacheFolder: join(temporary.path, 'write-cache'),
    }
    const pattern = (at: number) => Buffer.alloc(MiB, `at ${at} `)
    {
      await using fixture = await createOverlay(options, numberedImage(sizeBytes))
      const hot = fixture.openHot()
      for (let at = 0; at < sizeBytes; at += MiB) {
        await coldWrite(fixture, hot, at / BLOCK_BYTES, pattern(at))
      }
    }
    await using fixture = await createOverlay(options, numberedImage(sizeBytes))
    const hot = fixture.openHot()
    for (let at = 0; at < sizeBytes; at += MiB) {
      assert.ok(read(hot, at, MiB).equals(pattern(at)), `at ${at}`)
    }
    assert.ok(hot.write(0, pattern(7), false))
    assert.ok(read(hot, 0, MiB).equals(pattern(7)))
  })

  it('says that the write area gives nothing more, and waits', async () => {
    await using share = await createShare(1, true)
    await using fixture = await createOverlay({
      writeCacheLimitBytes: LIMIT,
      writeCacheShare: share,
    })
    const { overlay, notices } = fixture
    const hot = fixture.openHot()
    void coldWrite(fixture, hot, 0, blocks(30, 'a')).catch(() => undefined)
    await eventually('it waits', () => overlay.stats().writesWaiting === 1)
    assert.ok(notices.some((it) => it.kind === 'write-area-failed'))
    overlay.failWaiting()
  })
})
