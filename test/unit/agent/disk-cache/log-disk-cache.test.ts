/** What an open cache does for its users, on a disk in memory that works, or does not. */
import assert from 'node:assert/strict'
import { beforeEach, describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { CACHE_BYTES_MIN, layoutOf, SEGMENT_BYTES } from '#agent/disk-cache/cache-layout.ts'
import { formatCache } from '#agent/disk-cache/format-cache.ts'
import type { LogDiskCache } from '#agent/disk-cache/log-disk-cache.ts'
import { type OpenCacheOptions, openDiskCache } from '#agent/disk-cache/open-disk-cache.ts'
import { readAll, type TestObject, testObject } from '#test/support/disk-cache-objects.ts'
import { eventually } from '#test/support/eventually.ts'
import { FaultyDisk } from '#test/support/faulty-disk.ts'

const { segments, dataOffset } = layoutOf(CACHE_BYTES_MIN)
const CAPACITY = segments * SEGMENT_BYTES
const DAY_MS = 86_400_000

describe('LogDiskCache', () => {
  let disk: FaultyDisk
  let problems: string[]
  let hasServer: boolean
  let nowMs: number

  beforeEach(async () => {
    disk = new FaultyDisk(CACHE_BYTES_MIN)
    problems = []
    hasServer = true
    nowMs = 0
    await formatCache(disk)
  })

  async function open(options: Partial<OpenCacheOptions> = {}): Promise<LogDiskCache> {
    return await openDiskCache({
      device: disk,
      onProblem: (problem) => problems.push(problem),
      hasServer: () => hasServer,
      now: () => nowMs,
      flushMs: 1e6,
      readDeadlineMs: 30,
      ...options,
    })
  }

  /** Keeps objects until so many bytes are kept; returns those that are. */
  async function fill(cache: LogDiskCache, bytes: number, first = 0): Promise<TestObject[]> {
    const objects: TestObject[] = []
    for (let index = first, kept = 0; kept < bytes; index += 1) {
      const object = testObject(index, 30_000 + (index % 7) * 10_000)
      while (cache.taking === 'later') await turn()
      if (!cache.keep(object.hash, object)) break
      objects.push(object)
      kept += object.payload.length
    }
    return objects
  }

  async function reopened(cache: LogDiskCache): Promise<LogDiskCache> {
    await cache.close()
    return await open()
  }

  it('gives back what it was given, before it is written, after, and when it is opened again', async () => {
    let cache = await open()
    const objects = await fill(cache, 3 * SEGMENT_BYTES)
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([true]))
    cache = await reopened(cache)
    assert.equal(cache.objectCount, objects.length)
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([true]))
    assert.ok(cache.stats().usedBytes > 3 * SEGMENT_BYTES)
    assert.deepEqual(await readAll(cache, [testObject(9_999, 100)]), [false])
  })

  it('copies what it keeps', async () => {
    const cache = await open()
    const object = testObject(1, 5_000)
    const payload = Buffer.from(object.payload)
    cache.keep(object.hash, { ...object, payload })
    payload.fill(0)
    assert.deepEqual(await readAll(cache, [object]), [true])
  })

  it('goes on in the segment it was in', async () => {
    let cache = await open()
    for (let boot = 0; boot < 40; boot += 1) {
      cache.keep(testObject(boot, 20_000).hash, testObject(boot, 20_000))
      cache = await reopened(cache)
    }
    const objects = Array.from({ length: 40 }, (_, boot) => testObject(boot, 20_000))
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([true]))
    const behind = disk.bytes.subarray(dataOffset + 40 * 24_576, -4096)
    assert.ok(behind.every((byte) => byte === 0))
  })

  it('reads what was kept in order in large pieces', async () => {
    let cache = await open()
    const objects = await fill(cache, 3_000_000)
    cache = await reopened(cache)
    disk.reads.length = 0
    await readAll(cache, objects)
    assert.ok(disk.reads.length <= 4, `${disk.reads.length} reads`)
  })

  it('gives up the segment that was used longest ago', async () => {
    let cache = await open()
    const objects = await fill(cache, CAPACITY * 0.7)
    const used = objects.slice(0, 20)
    cache = await reopened(cache)
    await readAll(cache, used)
    nowMs += 30 * DAY_MS
    await fill(cache, CAPACITY * 0.7, 10_000)
    assert.deepEqual(new Set(await readAll(cache, used)), new Set([true]))
    assert.ok((await readAll(cache, objects.slice(100, 200))).includes(false))
  })

  it('keeps nothing new rather than give up what is held', async () => {
    const cache = await open()
    cache.holdFromNowOn()
    const objects = await fill(cache, CAPACITY / 2)
    nowMs += 30 * DAY_MS
    objects.push(...(await fill(cache, CAPACITY, 10_000)))
    assert.equal(cache.taking, 'full')
    assert.ok(cache.stats().usedBytes > 0.9 * CAPACITY)
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([true]))
    assert.equal(cache.losses, 0)
    // Who looks for room once more is told again that there is none, without keeping anything.
    cache.holdFromNowOn()
    await eventually('it is full', () => cache.taking === 'full')
  })

  it('finds room for what is held among what is not, writing it again where they lie together', async () => {
    let cache = await open()
    const before = await fill(cache, CAPACITY * 0.9)
    cache = await reopened(cache)
    cache.holdFromNowOn()
    const held = before.filter((_, index) => index % 5 === 0)
    for (const { hash } of held) cache.has(hash)
    nowMs += 30 * DAY_MS
    const after = await fill(cache, CAPACITY * 0.6, 10_000)
    assert.ok(after.length > 0.5 * before.length, `${after.length} of ${before.length}`)
    assert.deepEqual(new Set(await readAll(cache, [...held, ...after])), new Set([true]))
  })

  it('writes no more than its budget, which a day of use fills again', async () => {
    let cache = await open({ budgetBytesPerDay: SEGMENT_BYTES })
    const objects = await fill(cache, CAPACITY)
    assert.equal(cache.taking, 'budget')
    assert.ok(disk.writtenBytes < SEGMENT_BYTES + 100_000)
    await cache.close()
    cache = await open({ budgetBytesPerDay: SEGMENT_BYTES })
    assert.equal(cache.taking, 'budget')
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([true]))
    nowMs += DAY_MS
    assert.equal(cache.taking, 'now')
    assert.ok((await fill(cache, SEGMENT_BYTES / 2, 10_000)).length > 0)
  })

  it('writes little more than what it keeps', async () => {
    const cache = await open()
    disk.writtenBytes = 0
    const objects = await fill(cache, CAPACITY / 2)
    await cache.close()
    const bytes = objects.reduce((sum, { payload }) => sum + payload.length, 0)
    assert.ok(disk.writtenBytes < 1.02 * bytes, `${disk.writtenBytes / bytes} times as much`)
    assert.ok(disk.syncs < bytes / SEGMENT_BYTES + 6, `${disk.syncs} syncs`)
  })

  it('has not what it was told to forget', async () => {
    const cache = await open()
    const [object] = await fill(cache, 1)
    assert.ok(object)
    cache.forget(object.hash)
    assert.equal(cache.has(object.hash), false)
    assert.deepEqual(await readAll(cache, [object]), [false])
    assert.equal(cache.losses, 1)
    assert.equal(cache.keep(object.hash, object), true)
  })

  it('loses what lies on a bad place of the disk, and its neighbors not', async () => {
    let cache = await open()
    const objects = await fill(cache, 2_000_000)
    cache = await reopened(cache)
    disk.badBytes = { from: dataOffset + 400_000, to: dataOffset + 400_512 }
    const found = await readAll(cache, objects)
    assert.equal(found.filter((isFound) => !isFound).length, 1)
    assert.equal(cache.stats().state, 'ready')
    assert.deepEqual(problems, [])
  })

  it('gives up a disk that cannot be read at all, and says so once', async () => {
    let cache = await open()
    const objects = await fill(cache, 2_000_000)
    cache = await reopened(cache)
    disk.badBytes = { from: 0, to: CACHE_BYTES_MIN }
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([false]))
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([false]))
    assert.equal(problems.length, 1)
    assert.match(problems[0] ?? '', /cannot be read and is not used any more: EIO/)
    const { state, problem } = cache.stats()
    assert.deepEqual([state, problem], ['failed', problems[0]])
    assert.equal(cache.taking, 'never')
    await cache.close()
  })

  for (const code of ['ENOSPC', 'EROFS', 'EIO', 'ENXIO']) {
    it(`reads on when writing fails with ${code}, and has not what is not on the disk`, async () => {
      const cache = await open()
      const objects = await fill(cache, 3 * SEGMENT_BYTES)
      await eventually('it is now', () => cache.taking === 'now')
      disk.writeError = new Error(`${code}: it fails`)
      const lost = await fill(cache, 2 * SEGMENT_BYTES, 10_000)
      await eventually('it is failed', () => cache.stats().state === 'failed')
      assert.equal(problems.length, 1)
      assert.match(
        problems[0] ?? '',
        new RegExp(`cannot be written and keeps nothing new: ${code}`),
      )
      assert.equal(cache.keep(testObject(99_999, 1).hash, testObject(99_999, 1)), false)
      const found = await readAll(cache, [...objects, ...lost])
      assert.ok(found.slice(0, objects.length / 2).every(Boolean))
      assert.equal(found.at(-1), false)
      assert.ok(cache.losses > 0)
      await cache.close()
      assert.equal(disk.isClosed, true)
    })
  }

  it('does not wait for a disk that hangs while there is a server, and uses it when it answers', async () => {
    let cache = await open()
    const objects = await fill(cache, 2_000_000)
    cache = await reopened(cache)
    disk.hang()
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([false]))
    assert.equal(cache.has(objects[0]?.hash ?? new Uint8Array(32)), false)
    assert.equal(cache.stats().state, 'failed')
    assert.equal(problems.length, 1)
    disk.goOn()
    await eventually('it is ready', () => cache.stats().state === 'ready')
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([true]))
    assert.equal(problems.length, 1)
  })

  it('waits for a disk that hangs when there is no server', async () => {
    let cache = await open()
    const objects = await fill(cache, 200_000)
    cache = await reopened(cache)
    hasServer = false
    disk.hang()
    let found: boolean[] | undefined
    const reading = readAll(cache, objects).then((isFound) => {
      found = isFound
    })
    // Beyond several deadlines.
    await new Promise((resolve) => setTimeout(resolve, 150))
    assert.equal(found, undefined)
    assert.equal(cache.has(objects[0]?.hash ?? new Uint8Array(32)), true)
    disk.goOn()
    await reading
    assert.deepEqual(new Set(found), new Set([true]))
  })

  it('ends a wait without a server when the server is back', async () => {
    let cache = await open()
    const objects = await fill(cache, 200_000)
    cache = await reopened(cache)
    hasServer = false
    disk.hang()
    const reading = readAll(cache, objects)
    hasServer = true
    assert.deepEqual(new Set(await reading), new Set([false]))
  })

  it('keeps nothing more on a disk whose writes hang, and closes all the same', async () => {
    const cache = await open({ writeDeadlineMs: 50 })
    await fill(cache, 1_000)
    disk.hang()
    await cache.close()
    assert.match(problems[0] ?? '', /cannot be written .* does not answer/)
  })

  it('refuses a partition that became smaller, and one of another format', async () => {
    const half = new FaultyDisk(CACHE_BYTES_MIN)
    disk.bytes.copy(half.bytes)
    for (const at of [0, half.sizeBytes - 4096]) half.bytes.writeUInt32BE(2, at + 8)
    await assert.rejects(open({ device: half }), { code: 'CACHE_UNUSABLE', message: /format is 2/ })
    const empty = new FaultyDisk(CACHE_BYTES_MIN)
    await assert.rejects(open({ device: empty }), { message: /it is not formatted/ })
    const tiny = new FaultyDisk(4096)
    await assert.rejects(open({ device: tiny }), { message: /only 4096 bytes/ })
  })

  it('opens by the second superblock when the first is damaged', async () => {
    let cache = await open()
    const objects = await fill(cache, 200_000)
    await cache.close()
    disk.bytes.fill(0xff, 0, 4096)
    cache = await open()
    assert.deepEqual(new Set(await readAll(cache, objects)), new Set([true]))
  })
})
