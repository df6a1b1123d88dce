/** How the rest of a version comes to the local disk: with a real fetcher, over a server in memory. */
import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { LateDiskCache } from '#agent/disk-cache/late-disk-cache.ts'
import { DiskCopy } from '#agent/fetch/disk-copy.ts'
import { Fetcher } from '#agent/fetch/fetcher.ts'
import type { HydrationTimes } from '#agent/fetch/hydration.ts'
import { RateLimit } from '#agent/fetch/rate-limit.ts'
import { RAM_TIER_BYTES_MIN, RamTier } from '#agent/ram-tier/ram-tier.ts'
import { MiB } from '#shared/units.ts'
import { PRIORITY } from '#shared/wire/frame.ts'
import type { Hydration as Setting } from '#shared/wire/messages.ts'
import { eventually } from '#test/support/eventually.ts'
import { HonestTransport } from '#test/support/fake-object-transport.ts'
import { MemoryDiskCache } from '#test/support/memory-disk-cache.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'
import { fillWithText, imageOfSpans } from './fetch-fixture.ts'

const VERSION = new MemoryVersion(imageOfSpans())
const VERSION_BYTES = VERSION.chunks.reduce((sum, chunk) => sum + chunk.hash.length, 0) * 1000
const RUN: Setting = { mode: 'run', rateBytesPerSecond: 0 }
const PAUSE: Setting = { mode: 'pause', rateBytesPerSecond: 0 }
const OFF: Setting = { mode: 'off', rateBytesPerSecond: 0 }
const TIMES: HydrationTimes = { idleMs: 1, pollMs: 1, retryMs: 10 }

interface Options {
  readonly disk?: MemoryDiskCache
  readonly isThere?: boolean
  readonly times?: Partial<HydrationTimes>
  readonly version?: MemoryVersion
}

describe('DiskCopy', () => {
  const ends: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const end of ends.splice(0)) await end()
  })

  async function create({
    disk = new MemoryDiskCache(),
    isThere = true,
    times,
    version = VERSION,
  }: Options = {}) {
    const diskCache = new LateDiskCache()
    if (isThere) await diskCache.join(disk)
    const transport = new HonestTransport(version)
    const fetcher = new Fetcher({
      root: version.root,
      tier: new RamTier(version.sizeBytes, 16 * RAM_TIER_BYTES_MIN),
      transport,
      diskCache,
      readahead: false,
      isBoot: false,
      onFault: () => undefined,
    })
    const changes: boolean[] = []
    const copy = new DiskCopy({
      diskCache,
      versionBytes: VERSION_BYTES,
      onComplete: (isComplete) => changes.push(isComplete),
      times: { ...TIMES, ...times },
    })
    ends.push(async () => {
      fetcher.close()
      await copy.close()
    })
    const complete = async () => await eventually('all is here', () => copy.isComplete)
    const requested = () => transport.requests.flatMap(({ objects }) => objects)
    return { disk, diskCache, transport, fetcher, copy, changes, complete, requested }
  }

  function hasAll(disk: MemoryDiskCache): boolean {
    return VERSION.chunks.every(({ hash }) => disk.has(hash))
  }

  it('brings all of a version to the disk, manifest and all, and says so', async () => {
    const { disk, fetcher, copy, changes, complete, transport } = await create()
    copy.begin(fetcher.background, RUN)
    await complete()
    assert.ok(hasAll(disk))
    assert.deepEqual(changes, [true])
    assert.deepEqual(copy.status().hydration, {
      mode: 'complete',
      localBytes: VERSION_BYTES,
      versionBytes: VERSION_BYTES,
    })
    const chunkRequests = transport.requests.filter(({ objects }) => objects[0]?.level === 0)
    assert.ok(chunkRequests.every(({ priority }) => priority === PRIORITY.hydration))
    // Another agent finds all of it without the server.
    const alone = await create({ disk })
    alone.transport.lose()
    alone.copy.begin(alone.fetcher.background, RUN)
    await alone.complete()
    assert.deepEqual(alone.requested(), [])
  })

  it('asks for nothing that is here already', async () => {
    const disk = new MemoryDiskCache()
    const first = await create({ disk })
    first.copy.begin(first.fetcher.background, RUN)
    await first.complete()
    await first.copy.close()
    const lost = VERSION.chunks.filter((_, index) => index % 3 === 0)
    for (const { hash } of lost) disk.forget(hash)
    const second = await create({ disk })
    second.copy.begin(second.fetcher.background, RUN)
    await second.complete()
    const positions = second.requested().map(({ position }) => position)
    assert.deepEqual(
      positions.sort((a, b) => a - b),
      lost.map(({ firstBlock }) => firstBlock),
    )
  })

  it('asks once for what the version has in many places', async () => {
    const image = Buffer.alloc(8 * MiB)
    fillWithText(image, 0, 2 * MiB)
    image.copy(image, 4 * MiB, 0, 2 * MiB)
    const version = new MemoryVersion(image)
    const { fetcher, copy, complete, requested } = await create({ version })
    copy.begin(fetcher.background, RUN)
    await complete()
    const contents = new Set(version.chunks.map(({ hash }) => Buffer.from(hash).toString('hex')))
    assert.ok(contents.size < version.chunks.length * 0.6)
    assert.equal(requested().filter(({ level }) => level === 0).length, contents.size)
  })

  it('does nothing while it is off, waits while it is paused, and goes on', async () => {
    const { fetcher, copy, requested, complete, disk } = await create()
    copy.begin(fetcher.background, OFF)
    await sleep(20)
    assert.deepEqual(requested(), [])
    assert.equal(copy.status().hydration.mode, 'off')
    copy.hydrate(PAUSE)
    await sleep(20)
    assert.deepEqual(requested(), [])
    assert.equal(copy.status().hydration.mode, 'pause')
    copy.hydrate(RUN)
    await eventually('some is here', () => disk.size > 5)
    copy.hydrate(PAUSE)
    await eventually('nothing is on its way', async () => {
      const { size } = disk
      await sleep(10)
      return disk.size === size
    })
    assert.ok(!hasAll(disk))
    const { localBytes } = copy.status().hydration
    assert.ok(localBytes < VERSION_BYTES)
    copy.hydrate(RUN)
    await complete()
  })

  it('waits while somebody waits for the server', async () => {
    const { fetcher, copy, transport, requested, complete } = await create()
    transport.lose()
    fetcher.demand(0, 1, { onBlocks: () => undefined, onClosed: () => undefined })
    copy.begin(fetcher.background, RUN)
    await sleep(20)
    assert.equal(requested().length, 0)
    transport.open()
    await complete()
  })

  it('fetches again at once what came when the disk was behind', async () => {
    const { fetcher, copy, disk, complete } = await create({ times: { retryMs: 100_000 } })
    disk.refusals = 7
    copy.begin(fetcher.background, RUN)
    await complete()
    assert.ok(hasAll(disk))
  })

  it('waits for a disk that is behind, and ends when it is full or its budget is spent', async () => {
    for (const taking of ['later', 'full', 'budget'] as const) {
      const { fetcher, copy, disk, requested, complete } = await create()
      disk.taking = taking
      copy.begin(fetcher.background, RUN)
      await sleep(30)
      const chunks = requested().filter(({ level }) => level === 0)
      assert.deepEqual(chunks, [])
      assert.equal(copy.isComplete, false)
      disk.taking = 'now'
      await complete()
    }
  })

  it('begins when the disk is found, with the nodes that came before', async () => {
    const { fetcher, copy, diskCache, complete } = await create({ isThere: false })
    copy.begin(fetcher.background, RUN)
    for (let position = 0; position < fetcher.background.leafCount; position += 1)
      await fetcher.background.leaf(position)
    assert.equal(copy.status().diskCache.state, 'none')
    const disk = new MemoryDiskCache()
    await diskCache.join(disk)
    copy.advance()
    await complete()
    const alone = await create({ disk })
    alone.transport.lose()
    alone.copy.begin(alone.fetcher.background, RUN)
    await alone.complete()
  })

  it('is no longer complete when something was lost, and fetches it again', async () => {
    const { fetcher, copy, disk, changes, complete } = await create()
    copy.begin(fetcher.background, RUN)
    await complete()
    const [chunk] = VERSION.chunks
    assert.ok(chunk)
    disk.forget(chunk.hash)
    assert.equal(copy.isComplete, false)
    await eventually('it is complete again', () => copy.isComplete)
    assert.ok(hasAll(disk))
    assert.deepEqual(changes, [true, false, true])
  })

  it('goes on where it was when the server is back', async () => {
    const { fetcher, copy, disk, transport, complete } = await create()
    copy.begin(fetcher.background, RUN)
    await eventually('some is here', () => disk.size > 5)
    transport.lose()
    await sleep(10)
    transport.open()
    await complete()
  })

  it('says of a disk what is wrong with it, in as many words as the wire takes', async () => {
    const { copy, diskCache } = await create({ isThere: false })
    diskCache.fail('x'.repeat(300))
    const { state, problem } = copy.status().diskCache
    assert.deepEqual([state, problem.length], ['failed', 200])
  })
})

describe('RateLimit', () => {
  it('lets a second go at once, and then as much as it may', () => {
    const limit = new RateLimit()
    assert.equal(limit.take(1e9, 0), 0)
    limit.set(1000, 0)
    assert.equal(limit.take(500, 1000), 0)
    assert.equal(limit.take(500, 1000), 0)
    assert.equal(limit.take(500, 1000), 500)
    assert.equal(limit.take(500, 1500), 500)
    assert.equal(limit.take(500, 60_000), 0)
  })

  it('moves its rate over time, whatever the pieces', () => {
    const limit = new RateLimit()
    limit.set(10_000, 0)
    let [nowMs, bytes] = [0, 0]
    while (nowMs < 60_000) {
      bytes += 333
      nowMs += limit.take(333, nowMs)
    }
    assert.ok(Math.abs(bytes - 600_000) < 11_000, String(bytes))
  })
})
