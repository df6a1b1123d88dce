import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { RAM_TIER_BYTES_MIN } from '#agent/ram-tier/ram-tier.ts'
import { ReaderEpochs } from '#agent/ram-tier/reader-epochs.ts'
import { invariant } from '#shared/invariant.ts'
import { SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { MiB } from '#shared/units.ts'
import { CHUNK_ENCODING, NO_PAYLOAD, PRIORITY } from '#shared/wire/frame.ts'
import { OBJECTS_IN_FLIGHT_MAX } from '#shared/wire/limits.ts'
import { eventually } from '#test/support/eventually.ts'
import { MemoryDiskCache } from '#test/support/memory-disk-cache.ts'
import { MemoryVersion, type StoredObject } from '#test/support/memory-version.ts'
import { createFetcher, fillWithText } from './fetch-fixture.ts'

type Fixture = ReturnType<typeof createFetcher>

const noise = ({ header }: StoredObject): StoredObject => ({
  header,
  payload: Buffer.alloc(header.storedBytes, 0x5a),
})
const unreadable = ({ header }: StoredObject): StoredObject => ({
  header: { ...header, encoding: NO_PAYLOAD.unreadable, rawBytes: 0, storedBytes: 0 },
  payload: new Uint8Array(0),
})

/** First block of the chunk over a block. */
function chunkOver({ version }: Fixture, block: number): number {
  const chunk = version.chunkAt(block)
  invariant(chunk !== undefined, `block ${block} is data`)
  return chunk.firstBlock
}

/** Makes a leaf known. */
function learnLeaf({ demand, transport, done }: Fixture, block: number): void {
  demand(block)
  transport.answerAll()
  done.length = 0
}

describe('Fetcher', () => {
  it('demand asks for the nodes on the way and for the chunk in one request', () => {
    const fixture = createFetcher()
    const { demand, transport, done } = fixture
    demand(5)
    assert.deepEqual(transport.requests, [
      {
        priority: PRIORITY.demand,
        objects: [
          { level: 2, position: 0 },
          { level: 1, position: 0 },
          { level: 0, position: 5 },
        ],
      },
    ])
    transport.answerAll()
    assert.deepEqual(done, ['5-6'])
    assert.equal(transport.requests.length, 1)
  })

  it('demand asks for each object once however many wait', () => {
    const fixture = createFetcher()
    const { demand, pending, transport, done } = fixture
    demand(5)
    demand(6)
    demand(5, 7)
    assert.equal(pending().length, 3)
    transport.answerAll()
    assert.equal(new Set(done).size, 3)
    learnLeaf(fixture, 5)
    const [first, last] = [chunkOver(fixture, 300), chunkOver(fixture, 340)]
    demand(300)
    demand(300, 341)
    demand(340)
    assert.equal(new Set(pending()).size, pending().length)
    assert.deepEqual([pending()[0], pending().at(-1)], [`0/${first}`, `0/${last}`])
  })

  it('demand of several chunks without their leaf asks for the rest when that is here', () => {
    const { demand, transport, done, pending } = createFetcher()
    demand(0, 64)
    assert.deepEqual(pending(), ['2/0', '1/0', '0/0'])
    transport.answer()
    transport.answer()
    assert.ok(pending().length > 2)
    transport.answerAll()
    assert.deepEqual(done, ['0-64'])
  })

  it('demand of zeros fetches nothing but the leaf, and nothing at all below a zero node', () => {
    const { demand, transport, done, tier } = createFetcher()
    demand(600) // between data
    transport.answerAll()
    assert.deepEqual(done, ['600-601'])
    const { length } = transport.requests
    demand(2 * SPAN_BLOCKS + 7, 2 * SPAN_BLOCKS + 9)
    assert.equal(transport.requests.length, length)
    assert.equal(done.length, 2)
    // No more than the span is remembered, lest an empty disk cost memory.
    assert.ok(tier.has(2 * SPAN_BLOCKS) && tier.has(3 * SPAN_BLOCKS - 1))
    assert.ok(!tier.has(3 * SPAN_BLOCKS))
  })

  it('demand across a span asks for both leaves at once', () => {
    const fixture = createFetcher()
    const { demand, pending, transport, done } = fixture
    demand(SPAN_BLOCKS - 2, SPAN_BLOCKS + 2)
    assert.deepEqual(pending(), ['2/0', '1/0', '0/4094', '1/1', '0/4096'])
    transport.answerAll()
    assert.deepEqual(done, ['4094-4098'])
  })

  it('demand goes before what is fetched ahead', () => {
    const fixture = createFetcher({ readahead: true })
    const { demand, fetcher, transport } = fixture
    learnLeaf(fixture, 0)
    transport.lose()
    const first = chunkOver(fixture, 100)
    fetcher.readAhead(first, first + 1)
    const next = first + (fixture.version.chunkAt(first)?.blocks ?? 0)
    fetcher.readAhead(next, next + 1)
    demand(400)
    transport.requests.length = 0
    transport.open()
    assert.deepEqual(
      transport.requests.map(({ priority }) => priority),
      [PRIORITY.demand, PRIORITY.prefetch],
    )
    assert.deepEqual(transport.requests[0]?.objects.length, 1)
  })

  it('readAhead asks for leaves ahead of their span, and for no chunk that is here', () => {
    const fixture = createFetcher({ readahead: true })
    const { fetcher, pending, transport, version } = fixture
    learnLeaf(fixture, 0)
    const last = version.chunks.filter(({ firstBlock }) => firstBlock < SPAN_BLOCKS).at(-1)
    invariant(last !== undefined, 'a chunk')
    for (const block of [last.firstBlock - 1, last.firstBlock]) fetcher.readAhead(block, block + 1)
    assert.ok(pending().includes('1/1'))
    transport.answerAll()
    assert.ok(fixture.tier.has(SPAN_BLOCKS), 'chunks behind the leaf come with it')
    assert.ok(transport.requests.slice(1).every(({ priority }) => priority === PRIORITY.prefetch))
  })

  it('demand of a chunk that is fetched ahead waits for it, and asks when it takes too long', async () => {
    const fixture = createFetcher({ readahead: true })
    const { fetcher, transport, demand, done, pending } = fixture
    learnLeaf(fixture, 0)
    const first = chunkOver(fixture, 100)
    const next = first + (fixture.version.chunkAt(first)?.blocks ?? 0)
    for (const block of [first, next]) fetcher.readAhead(block, block + 1)
    const ahead = transport.pending.at(-1)
    invariant(ahead !== undefined, 'something is fetched ahead')
    const { length } = pending()
    demand(ahead.position)
    assert.equal(pending().length, length)
    await eventually('it is asked for after all', () => pending().length > length)
    assert.equal(transport.pending.at(-1)?.priority, PRIORITY.demand)
    transport.answerAll()
    assert.equal(done.length, 1)
  })

  it('keeps to OBJECTS_IN_FLIGHT_MAX', () => {
    const fixture = createFetcher()
    const { demand, transport, version, done } = fixture
    for (const span of [0, 1, 3]) learnLeaf(fixture, span * SPAN_BLOCKS)
    for (let round = 0; round < 20; round += 1) {
      for (const { firstBlock } of version.chunks) demand(firstBlock)
      assert.ok(transport.pending.length <= OBJECTS_IN_FLIGHT_MAX)
      assert.ok(transport.requests.every(({ objects }) => objects.length <= 256))
    }
    transport.answerAll()
    assert.equal(done.length, 20 * version.chunks.length)
  })

  it('waits while there is no server, and asks when it is there', () => {
    const { demand, transport, done, pending } = createFetcher({ open: false })
    demand(5)
    transport.lose()
    assert.deepEqual(pending(), [])
    transport.open()
    assert.deepEqual(pending(), ['2/0', '1/0', '0/5'])
    transport.answerAll()
    assert.deepEqual(done, ['5-6'])
  })

  it('asks again for all that was on its way when the connection was lost, nodes first', () => {
    const fixture = createFetcher()
    const { demand, transport, done, pending } = fixture
    demand(5)
    demand(SPAN_BLOCKS + 5)
    transport.answer()
    transport.lose()
    transport.open()
    assert.deepEqual(pending(), ['1/0', '0/5', '1/1', '0/4101'])
    transport.answerAll()
    assert.equal(done.length, 2)
  })

  it('a chunk that comes wrong is never handed on, counted, and asked for again', () => {
    const fixture = createFetcher()
    const { demand, transport, done, tier, faults, fetcher } = fixture
    learnLeaf(fixture, 0)
    const chunk = fixture.version.chunkAt(200)
    invariant(chunk !== undefined, 'a chunk')
    demand(200)
    const other = fixture.version.object({ level: 0, position: 0 })
    const short = fixture.version.rawChunk(chunk).subarray(4096)
    const changes: ((stored: StoredObject) => StoredObject)[] = [
      noise,
      // Another chunk's bytes, sound in themselves.
      ({ header }) => ({
        header: { ...header, encoding: other.header.encoding },
        payload: other.payload,
      }),
      // Shorter than the leaf says.
      ({ header }) => ({
        header: {
          ...header,
          encoding: CHUNK_ENCODING.raw,
          rawBytes: short.length,
          storedBytes: short.length,
        },
        payload: short,
      }),
    ]
    for (const [at, change] of changes.entries()) {
      assert.equal(transport.pending.length, at === 0 ? 1 : transport.pending.length)
      if (transport.pending.length > 0) transport.answerWith(0, change)
      assert.deepEqual(done, [])
      assert.ok(!tier.has(200))
    }
    assert.ok(fetcher.stats().objectsCorrupt >= 2)
    assert.equal(faults.length, 1, 'told once')
  })

  it('asks again and again, with pauses, for what comes wrong, and takes it when it is right', async () => {
    const fixture = createFetcher()
    const { demand, transport, done, fetcher } = fixture
    learnLeaf(fixture, 0)
    const chunk = fixture.version.chunkAt(200)
    invariant(chunk !== undefined, 'a chunk')
    // Well-formed and as long as it should be: only the hash tells.
    const oneBitOff = ({ header }: StoredObject): StoredObject => {
      const payload = Buffer.from(fixture.version.rawChunk(chunk))
      payload[payload.length >> 1] = (payload[payload.length >> 1] ?? 0) ^ 1
      const { length } = payload
      const encoding = CHUNK_ENCODING.raw
      return { header: { ...header, encoding, rawBytes: length, storedBytes: length }, payload }
    }
    demand(200)
    for (const change of [noise, unreadable, oneBitOff, noise]) {
      await eventually('it is asked for', () => transport.pending.length === 1)
      transport.answerWith(0, change)
    }
    assert.deepEqual(done, [])
    await eventually('it is asked for', () => transport.pending.length === 1)
    transport.answerAll()
    assert.deepEqual(done, ['200-201'])
    assert.equal(fetcher.stats().objectsCorrupt, 4)
  })

  it('a node that comes wrong lets nothing below it in, and is asked for again', async () => {
    const { demand, transport, done, tier } = createFetcher()
    demand(5)
    transport.answerWith(0, noise)
    transport.answerAll()
    await eventually('it is there', () => {
      transport.answerAll()
      return done.length === 1
    })
    assert.ok(tier.has(5))
    const again = createFetcher()
    again.demand(5)
    again.transport.answer()
    again.transport.answerWith(0, noise)
    assert.ok(!again.tier.has(5))
    again.transport.answerAll()
    await eventually('it is there', () => {
      again.transport.answerAll()
      return again.done.length === 1
    })
  })

  it('an object nobody asked for is ignored', () => {
    const fixture = createFetcher()
    const { transport, version, tier, demand, done } = fixture
    learnLeaf(fixture, 0)
    transport.deliver(version.object({ level: 0, position: 300 }))
    transport.deliver(version.object({ level: 1, position: 3 }))
    transport.deliver({ ...version.object({ level: 1, position: 0 }) })
    transport.deliver(noise(version.object({ level: 2, position: 0 })))
    assert.ok(!tier.has(300))
    demand(300)
    transport.answerAll()
    assert.equal(done.length, 1)
  })

  it('waits for readers when they hold the tier, asks for nothing meanwhile, and goes on', async () => {
    const fixture = createFetcher({ tierBytes: RAM_TIER_BYTES_MIN })
    const { demand, transport, version, tier, done } = fixture
    const reader = new ReaderEpochs(tier.memory.epochs).claim()
    for (const span of [0, 1, 3]) learnLeaf(fixture, span * SPAN_BLOCKS)
    for (const { firstBlock } of version.chunks) demand(firstBlock)
    reader.enter()
    transport.answerAll()
    assert.ok(done.length < version.chunks.length)
    demand(version.chunks[0]?.firstBlock ?? 0)
    const { length } = transport.pending
    assert.equal(length, 0)
    reader.leave()
    await eventually('all came', () => {
      transport.answerAll()
      return done.length === version.chunks.length + 1
    })
  })

  it('close tells all who wait, and whoever comes later', () => {
    const fixture = createFetcher()
    learnLeaf(fixture, 0)
    const { demand, fetcher, errors, transport, done } = fixture
    demand(200)
    demand(SPAN_BLOCKS)
    fetcher.close()
    demand(300)
    assert.deepEqual(
      errors.map(({ name }) => name),
      ['AbortError', 'AbortError', 'AbortError'],
    )
    transport.answerAll()
    transport.lose()
    transport.open()
    fetcher.readAhead(0, 100)
    assert.deepEqual(done, [])
    assert.deepEqual(transport.pending, [])
  })
})

describe('Fetcher with a local disk', () => {
  it('reads from it what it has, and keeps there what came from the server', async () => {
    const diskCache = new MemoryDiskCache()
    const first = createFetcher({ diskCache })
    first.demand(5)
    first.transport.answerAll()
    assert.equal(diskCache.size, 3)
    const second = createFetcher({ diskCache, open: false })
    second.demand(5)
    await eventually('it came from the disk', () => second.done.length === 1)
    assert.equal(second.transport.requests.length, 0)
  })

  it('goes to the server for what the disk has damaged, and has it forgotten there', async () => {
    const diskCache = new MemoryDiskCache()
    const first = createFetcher({ diskCache })
    first.demand(5)
    first.transport.answerAll()
    diskCache.damageAll()
    const second = createFetcher({ diskCache })
    second.demand(5)
    await eventually('it came', () => {
      second.transport.answerAll()
      return second.done.length === 1
    })
    assert.ok(second.fetcher.stats().objectsCorrupt > 0)
    assert.equal(diskCache.forgotten, second.fetcher.stats().objectsCorrupt)
    assert.equal(diskCache.size, 3, 'and kept anew')
  })

  it('goes to the server when the disk has lost what it said it has', async () => {
    const diskCache = new MemoryDiskCache()
    const first = createFetcher({ diskCache })
    first.demand(5)
    first.transport.answerAll()
    diskCache.loseAll()
    const second = createFetcher({ diskCache })
    second.demand(5)
    await eventually('it came', () => {
      second.transport.answerAll()
      return second.done.length === 1
    })
    assert.equal(second.fetcher.stats().objectsCorrupt, 0)
  })

  it('asks the server, too, when the disk does not answer', async () => {
    const diskCache = new MemoryDiskCache()
    const first = createFetcher({ diskCache })
    first.demand(5)
    first.transport.answerAll()
    diskCache.hang()
    const second = createFetcher({ diskCache })
    second.demand(5)
    await eventually('it came', () => {
      second.transport.answerAll()
      return second.done.length === 1
    })
  })

  it('hydration gets leaves and chunks for the disk, and no frame of the RAM tier', async () => {
    const diskCache = new MemoryDiskCache()
    const { fetcher, transport, version, tier } = createFetcher({ diskCache })
    const leaf = fetcher.background.leaf(0)
    transport.answerAll()
    assert.ok(((await leaf)?.extentCount ?? 0) > 10)
    assert.equal(await fetcher.background.leaf(2), undefined)
    const chunk = version.chunkAt(200)
    invariant(chunk !== undefined, 'a chunk')
    const kept = fetcher.background.keep(chunk)
    assert.equal(transport.pending[0]?.priority, PRIORITY.hydration)
    transport.answerAll()
    assert.equal(await kept, true)
    assert.ok(diskCache.has(chunk.hash))
    assert.ok(!tier.has(chunk.firstBlock))
    const bad = fetcher.background.keep(chunk)
    transport.answerWith(0, noise)
    assert.equal(await bad, false)
    const closed = assert.rejects(fetcher.background.keep(chunk), { name: 'AbortError' })
    fetcher.close()
    await closed
  })

  it('hydration gets a chunk whose leaf was forgotten meanwhile', async () => {
    const diskCache = new MemoryDiskCache()
    const fixture = createFetcher({ diskCache, leafMemoryBytesMax: 1 })
    learnLeaf(fixture, 0)
    const { fetcher, transport, version } = fixture
    const chunk = version.chunkAt(200)
    invariant(chunk !== undefined, 'a chunk')
    const kept = fetcher.background.keep(chunk)
    const other = fetcher.background.leaf(1)
    transport.answer(transport.find(1, 1))
    await other
    transport.answerAll()
    assert.equal(await kept, true)
  })

  it('hydration gets a chunk that is no longer fetched ahead', async () => {
    // More chunks than are remembered to be fetched ahead.
    const image = Buffer.alloc(15 * MiB)
    fillWithText(image, 0, image.length)
    const version = new MemoryVersion(image)
    assert.ok(version.chunks.length > 300)
    const fixture = createFetcher({ diskCache: new MemoryDiskCache(), readahead: true, version })
    learnLeaf(fixture, 0)
    const { fetcher, transport } = fixture
    transport.lose()
    const [, first, next, ahead, ...others] = version.chunks
    invariant(first !== undefined && next !== undefined && ahead !== undefined, 'chunks')
    for (const { firstBlock } of [first, next]) fetcher.readAhead(firstBlock, firstBlock + 1)
    const kept = fetcher.background.keep(ahead)
    for (const { firstBlock } of others) fetcher.readAhead(firstBlock, firstBlock + 1)
    transport.open()
    transport.answerAll()
    assert.equal(await kept, true)
    assert.deepEqual(Object.values(fetcher.unfinished), [0, 0, 0, 0])
  })

  it('a demand read of a chunk that is being hydrated gets it', async () => {
    const diskCache = new MemoryDiskCache()
    const fixture = createFetcher({ diskCache })
    learnLeaf(fixture, 0)
    const { fetcher, transport, version, demand, done } = fixture
    const chunk = version.chunkAt(200)
    invariant(chunk !== undefined, 'a chunk')
    const kept = fetcher.background.keep(chunk)
    demand(200)
    assert.equal(transport.pending.length, 1)
    transport.answerAll()
    assert.deepEqual(done, ['200-201'])
    assert.equal(await kept, true)
  })
})
