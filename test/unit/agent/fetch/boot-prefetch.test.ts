/** The boot list as the fetcher follows it. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { WINDOW_BYTES_AT_FIRST } from '#agent/fetch/path-window.ts'
import { FRAME_BASE, RAM_TIER_BYTES_MIN } from '#agent/ram-tier/ram-tier.ts'
import { invariant } from '#shared/invariant.ts'
import { MiB } from '#shared/units.ts'
import { firstPushCount } from '#shared/wire/first-push.ts'
import { type BootListEntry, CHUNK_LEVEL, PRIORITY } from '#shared/wire/frame.ts'
import { eventually } from '#test/support/eventually.ts'
import { MemoryDiskCache } from '#test/support/memory-disk-cache.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'
import { createFetcher, fillWithText } from './fetch-fixture.ts'

/** 24 MiB of data: more than the window, and six times the smallest RAM tier. */
const image = Buffer.alloc(24 * MiB)
fillWithText(image, 0, image.length)
const version = new MemoryVersion(image)
const everyBlock = version.chunks.map(({ firstBlock }) => firstBlock)
const list = version.bootList(everyBlock)

type Fixture = ReturnType<typeof create>

function create(options: Parameters<typeof createFetcher>[0] = {}) {
  return createFetcher({ version, bootList: list, isBoot: true, ...options })
}

function grantedCount({ transport }: Fixture): number {
  return transport.pushes.reduce((sum, { begin, end }) => sum + end - begin, 0)
}

/** What the kernel does with what is here: reads one block of each chunk. */
function readAll({ tier }: Fixture, until = version.chunks.length): void {
  const index = new Int32Array(tier.memory.index)
  const marks = new Uint32Array(tier.memory.marks)
  for (const { firstBlock } of version.chunks.slice(0, until)) {
    const frame = (index[firstBlock] ?? 0) - FRAME_BASE
    if (frame >= 0) marks[frame] = 1 + firstBlock
  }
}

describe('the boot list', () => {
  it('is pushed in its order within the window, and all of it in the end', () => {
    const fixture = create()
    const { transport, tier } = fixture
    const [first] = transport.pushes
    assert.equal(first?.begin, 0)
    const firstBytes = list.slice(0, first?.end).reduce((sum, it) => sum + it.storedBytes, 0)
    assert.ok(firstBytes <= WINDOW_BYTES_AT_FIRST)
    transport.answerAll()
    for (const { firstBlock } of version.chunks) assert.ok(tier.has(firstBlock), `${firstBlock}`)
    assert.equal(grantedCount(fixture), list.length)
    const begins = transport.pushes.map(({ begin }) => begin)
    assert.deepEqual(
      begins,
      [...begins].sort((a, b) => a - b),
    )
    assert.ok(transport.pushes.length < list.length / 2, 'grants are not made one by one')
    assert.equal(transport.requests.length, 0)
  })

  it('begins with what the server pushes unasked', () => {
    const firstPush = firstPushCount(list, 100_000)
    const fixture = create({ firstPush })
    assert.equal(fixture.transport.pushes[0]?.begin, firstPush)
    fixture.transport.answerAll()
    assert.equal(grantedCount(fixture), list.length - firstPush)
  })

  it('is pushed no farther ahead of the kernel than three quarters of the RAM tier', () => {
    const fixture = create({ tierBytes: RAM_TIER_BYTES_MIN })
    const { transport, tier, fetcher } = fixture
    for (let round = 1; fetcher.stats().prefetch.hits < version.chunks.length; round += 1) {
      transport.answerAll()
      // As far as lengths are known: the leaf comes behind the first grants.
      assert.ok(tier.guardedBytes <= 0.8 * RAM_TIER_BYTES_MIN)
      assert.equal(transport.requests.length, 0)
      const { hits } = fetcher.stats().prefetch
      readAll(fixture)
      fetcher.harvest()
      assert.ok(fetcher.stats().prefetch.hits > hits, `round ${round}`)
    }
    // Nothing was evicted before it was read.
    assert.equal(fetcher.stats().prefetch.unusedBytes, 0)
  })

  it('leaves out what is here, and what is on the local disk, which is read from there', async () => {
    const diskCache = new MemoryDiskCache()
    const first = create({ diskCache })
    first.transport.answerAll()
    const second = create({ diskCache })
    await eventually('all is here', () => everyBlock.every((block) => second.tier.has(block)))
    assert.deepEqual(second.transport.pushes, [])
    assert.deepEqual(second.transport.requests, [])
    assert.ok(
      diskCache.reads.some((hashes) => hashes.length > 3),
      'neighbours are read together',
    )
  })

  it('with a disk that has most, only what it has not is pushed', async () => {
    const diskCache = new MemoryDiskCache()
    create({ diskCache }).transport.answerAll()
    const gone = version.chunks.filter((_, at) => at % 50 === 7)
    for (const { hash } of gone) diskCache.forget(hash)
    diskCache.forget(version.root.rootHash)
    const second = create({ diskCache })
    await eventually('all is here', () => {
      second.transport.answerAll()
      return everyBlock.every((block) => second.tier.has(block))
    })
    assert.equal(grantedCount(second), gone.length + 1)
  })

  it('a disk is read ahead of the kernel while the server is away', async () => {
    const diskCache = new MemoryDiskCache()
    create({ diskCache }).transport.answerAll()
    const tierBytes = 2 * RAM_TIER_BYTES_MIN
    const second = create({ diskCache, tierBytes })
    second.transport.lose()
    await eventually('all was here', () => {
      readAll(second)
      second.fetcher.harvest()
      return second.fetcher.stats().prefetch.hits === version.chunks.length
    })
  })

  it('a demand read of what is granted waits for it', () => {
    const fixture = create()
    const { transport, demand, done, fetcher } = fixture
    transport.answer()
    transport.answer() // nodes
    demand(3)
    assert.equal(transport.requests.length, 0)
    transport.answerAll()
    assert.deepEqual(done, ['3-4'])
    const { hits, late, misses } = fetcher.stats().prefetch
    assert.deepEqual([hits, late, misses], [0, 1, 0])
  })

  it('a chunk that was waited for is not one that nobody read', () => {
    const fixture = create()
    fixture.transport.answer()
    fixture.transport.answer()
    for (const block of everyBlock) fixture.demand(block)
    fixture.transport.answerAll()
    assert.equal(fixture.done.length, everyBlock.length)
    assert.equal(fixture.fetcher.stats().prefetch.unusedBytes, 0)
  })

  it('sequential reads of what it names fetch nothing ahead of it', () => {
    const fixture = create({ readahead: true })
    fixture.transport.answer()
    fixture.transport.answer()
    for (const block of everyBlock.slice(0, 20)) fixture.fetcher.readAhead(block, block + 1)
    assert.deepEqual(fixture.transport.requests, [])
    const half = create({ readahead: true, bootList: version.bootList(everyBlock.slice(300)) })
    half.transport.answerAll()
    const { length } = half.transport.requests
    for (const block of everyBlock.slice(0, 3)) half.fetcher.readAhead(block, block + 1)
    assert.ok(half.transport.requests.length > length)
  })

  it('a demand read of what is granted asks when it does not come in time', async () => {
    const fixture = create()
    const { transport, demand, done } = fixture
    transport.answer()
    transport.answer()
    demand(3)
    await eventually('it is asked for', () => transport.requests.length === 1)
    assert.equal(transport.requests[0]?.priority, PRIORITY.demand)
    transport.answer(transport.next())
    assert.deepEqual(done, ['3-4'])
    // It is left out of the push; the rest comes all the same.
    transport.answerAll()
    assert.ok(everyBlock.every((block) => fixture.tier.has(block)))
  })

  it('who waits for what the server leaves out asks for it, also when nobody hurries', async () => {
    const fixture = create()
    const { transport, fetcher } = fixture
    transport.answer(transport.find(2, 0))
    const leaf = fetcher.background.leaf(0)
    assert.equal(transport.requests.length, 0)
    transport.takePending(transport.find(1, 0))
    transport.answerAll() // what was granted behind it
    assert.deepEqual(transport.requests[0]?.objects, [{ level: 1, position: 0 }])
    assert.ok((await leaf) !== undefined)
  })

  it('what is granted at the end of the boot still comes, and nothing else', () => {
    const fixture = create()
    const { transport, fetcher, tier } = fixture
    transport.answer()
    transport.answer()
    const granted = transport.pending.length
    assert.ok(granted > 3)
    fetcher.endBoot()
    const { pending: left } = transport
    const [{ position } = { position: -1 }] = left
    transport.answerAll()
    assert.equal(grantedCount(fixture), 2 + granted)
    assert.ok(tier.has(position))
    assert.equal(tier.guardedBytes, 0)
    assert.deepEqual(Object.values(fetcher.unfinished), [0, 0, 0, 0])
  })

  it('a demand read a little behind what is granted is let come by push, with all before it', () => {
    const fixture = create()
    const { transport, demand, done } = fixture
    for (let came = 0; came < 5; came += 1) transport.answer()
    const next = Math.max(...transport.pushes.map(({ end }) => end))
    const wanted = list[next + 2]
    invariant(wanted?.level === CHUNK_LEVEL, 'a chunk of a span whose leaf is here')
    const pushesBefore = transport.pushes.length
    demand(wanted.position)
    assert.deepEqual(transport.requests, [])
    assert.equal(transport.pushes.length, pushesBefore + 1)
    assert.equal(transport.pushes.at(-1)?.begin, next)
    assert.ok((transport.pushes.at(-1)?.end ?? 0) >= next + 3)
    transport.answerAll()
    assert.ok(done.includes(`${wanted.position}-${wanted.position + 1}`))
  })

  it('what is not granted yet is asked for at once, and counted as missed', () => {
    const fixture = create()
    const { transport, demand, done, fetcher } = fixture
    const last = everyBlock.at(-1)
    invariant(last !== undefined, 'a chunk')
    demand(last)
    const { objects } = transport.requests[0] ?? {}
    assert.deepEqual(objects?.at(-1), { level: CHUNK_LEVEL, position: last })
    transport.answerAll()
    assert.equal(done.length, 1)
    assert.deepEqual(fetcher.stats().prefetch.misses, 1)
  })

  it('goes on after a lost connection where it was, whatever was on its way', () => {
    const fixture = create()
    const { transport, tier } = fixture
    for (let count = 0; count < 40; count += 1) transport.answer()
    const here = everyBlock.filter((block) => tier.has(block)).length
    assert.ok(here > 20)
    transport.lose()
    transport.pushes.length = 0
    transport.open()
    assert.equal(transport.pushes[0]?.begin, 40)
    transport.answerAll()
    assert.equal(grantedCount(fixture), list.length - 40)
    assert.ok(everyBlock.every((block) => tier.has(block)))
  })

  it('pushes nothing before the server has told its list on a new connection', () => {
    const fixture = createFetcher({ version, isBoot: true })
    fixture.fetcher.onBootList(list, 0)
    fixture.transport.lose()
    fixture.transport.pushes.length = 0
    fixture.transport.open() // this one has none
    fixture.demand(3)
    fixture.transport.answerAll()
    assert.deepEqual(fixture.transport.pushes, [])
  })

  it('a list that lies harms nobody: objects that are not there, zeros, halves of chunks', () => {
    const lies: BootListEntry[] = [
      { level: 0, position: 2 ** 31, storedBytes: 1000 },
      { level: 4, position: 0, storedBytes: 1000 },
      { level: 1, position: 2 ** 20, storedBytes: 1000 },
      { level: 0, position: 0, storedBytes: 0 },
      { level: 0, position: 0, storedBytes: 9 },
      { level: 0, position: 1, storedBytes: 16_000_000 },
      ...list.slice(3, 40),
    ]
    const fixture = create({ bootList: lies })
    fixture.demand(500)
    for (let count = 0; count < 300 && fixture.transport.pending.length > 0; count += 1) {
      fixture.transport.answer(fixture.transport.next())
    }
    assert.deepEqual(fixture.done, ['500-501'])
    assert.ok(fixture.tier.has(0))
  })

  it('endBoot tells the server what was read in the order of time, and ends the pushes', () => {
    const fixture = create({ tierBytes: RAM_TIER_BYTES_MIN })
    const { transport, fetcher, demand, tier } = fixture
    transport.answerAll()
    const read = everyBlock.filter((block) => tier.has(block))
    readAll(fixture)
    fetcher.harvest()
    demand(everyBlock.at(-1) ?? 0)
    transport.answerAll()
    transport.lose()
    fetcher.endBoot()
    assert.equal(transport.traces.length, 0)
    transport.open()
    const trace = transport.traces.at(-1) ?? []
    assert.ok(trace.length > read.length)
    for (const [at, { position, atMs }] of trace.entries()) {
      assert.ok(version.chunkAt(position)?.firstBlock === position)
      assert.ok(at === 0 || atMs >= (trace[at - 1]?.atMs ?? 0))
    }
    // Marked with the number of its block.
    assert.ok(trace.some(({ position, atMs }) => position > 50 && atMs === position))
    transport.pushes.length = 0
    readAll(fixture)
    fetcher.harvest()
    transport.answerAll()
    assert.deepEqual(transport.pushes, [])
    transport.lose()
    transport.open()
    assert.equal(transport.traces.length, 1, 'told once')
    assert.equal(tier.guardedBytes, 0)
  })

  it('a trace that was dropped is not told, nor one of an agent that saw no boot', () => {
    for (const isBoot of [true, false]) {
      const fixture = create({ isBoot })
      fixture.demand(3)
      fixture.transport.answerAll()
      if (isBoot) fixture.fetcher.dropTrace()
      fixture.fetcher.endBoot()
      assert.deepEqual(fixture.transport.traces, [])
      if (!isBoot) assert.deepEqual(fixture.transport.pushes, [])
    }
  })

  it('counts what was pushed and not read', () => {
    const fixture = create()
    const { transport, fetcher } = fixture
    transport.answerAll()
    const { pushedBytes, unusedBytes } = fetcher.stats().prefetch
    assert.equal(
      pushedBytes,
      list.reduce((sum, it) => sum + it.storedBytes, 0),
    )
    assert.equal(unusedBytes, version.storedBytes)
    readAll(fixture, version.chunks.length - 1)
    fetcher.harvest()
    const last = version.chunks.at(-1)
    invariant(last !== undefined, 'a chunk')
    const { storedBytes } = version.object({ level: 0, position: last.firstBlock }).header
    assert.equal(fetcher.stats().prefetch.unusedBytes, storedBytes)
  })
})
