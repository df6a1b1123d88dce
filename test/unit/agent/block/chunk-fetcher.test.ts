import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BLOCK_BYTES } from '#agent/block/block-size.ts'
import { ChunkDecoder } from '#agent/block/chunk-decoder.ts'
import { ChunkFetcher } from '#agent/block/chunk-fetcher.ts'
import { RAM_TIER_BYTES_MIN, RamTier } from '#agent/block/ram-tier.ts'
import { ReaderEpochs } from '#agent/block/reader-epochs.ts'
import { KiB, MiB } from '#shared/units.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'
import { REQUESTS_IN_FLIGHT_MAX } from '#shared/wire/limits.ts'
import { FakeChunkTransport } from '#test/support/fake-chunk-transport.ts'
import { numberedImage } from './overlay-fixture.ts'

const CHUNK_BYTES = 64 * KiB
const CHUNK_BLOCKS = CHUNK_BYTES / BLOCK_BYTES

function create({ chunks = 200, tierBytes = 64 * MiB, readahead = false, open = true } = {}) {
  const image = numberedImage(chunks * CHUNK_BYTES)
  const transport = new FakeChunkTransport(image, CHUNK_BYTES, open)
  const tier = new RamTier(image.length, tierBytes)
  const unreadable: number[] = []
  const fetcher = new ChunkFetcher({
    grid: transport.grid,
    tier,
    transport,
    decoder: new ChunkDecoder(),
    readahead,
    onUnreadable: (chunkIndex) => unreadable.push(chunkIndex),
  })
  /** What waiters were told: a chunk, or the error with it. */
  const done: unknown[] = []
  const demand = (chunkIndex: number) =>
    fetcher.demand(chunkIndex, (error) => done.push(error === undefined ? chunkIndex : error))
  const pending = () => transport.pending.map(({ chunkIndex }) => chunkIndex)
  const pendingIndex = (chunkIndex: number) => pending().indexOf(chunkIndex)
  return { image, transport, tier, fetcher, unreadable, done, demand, pending, pendingIndex }
}

const range = (first: number, end: number) =>
  Array.from({ length: end - first }, (_, at) => first + at)

describe('ChunkFetcher', () => {
  it('demand asks for a chunk once, and tells all who wait when it is in the tier', () => {
    const { demand, transport, done, tier, image, pending } = create()
    demand(3)
    demand(3)
    demand(4)
    assert.deepEqual(pending(), [3, 4])
    assert.ok(transport.pending.every(({ priority }) => priority === 0))
    assert.ok(!tier.has(3 * CHUNK_BLOCKS))
    transport.answer()
    assert.deepEqual(done, [3, 3])
    const target = Buffer.alloc(CHUNK_BYTES)
    assert.ok(tier.copyTo(target, 3 * CHUNK_BYTES, CHUNK_BYTES))
    assert.ok(target.equals(image.subarray(3 * CHUNK_BYTES, 4 * CHUNK_BYTES)))
  })

  it('keeps to REQUESTS_IN_FLIGHT_MAX, and never uses a request id twice', () => {
    const { demand, transport, done } = create()
    for (const chunk of range(0, 200)) demand(chunk)
    while (transport.pending.length > 0) {
      assert.ok(transport.pending.length <= REQUESTS_IN_FLIGHT_MAX)
      transport.answer(transport.pending.length - 1)
    }
    assert.equal(transport.requests.length, 200)
    assert.equal(new Set(transport.requests.map(({ requestId }) => requestId)).size, 200)
    assert.equal(done.length, 200)
  })

  it('keeps fewer in flight when the tier is small', () => {
    const { demand, transport, tier } = create({ tierBytes: RAM_TIER_BYTES_MIN })
    for (const chunk of range(0, 200)) demand(chunk)
    assert.equal(transport.pending.length, Math.min(tier.reservationsMax, 64))
  })

  it('readAhead asks for what follows, with a lower priority and not for what is here', () => {
    const { demand, fetcher, transport, pending } = create({ readahead: true })
    demand(2)
    transport.answer()
    demand(0)
    fetcher.readAhead(0, 1)
    demand(1)
    fetcher.readAhead(1, 2)
    assert.deepEqual(pending(), [0, 1, 3])
    assert.deepEqual(
      transport.pending.map(({ priority }) => priority),
      [0, 0, 1],
    )
    fetcher.readAhead(1, 2)
    assert.deepEqual(pending(), [0, 1, 3])
  })

  it('readAhead does nothing when it is off', () => {
    const { fetcher, transport } = create()
    fetcher.readAhead(0, 1)
    fetcher.readAhead(1, 2)
    assert.equal(transport.requests.length, 0)
  })

  it('what somebody waits for goes before what is fetched ahead', () => {
    const { demand, fetcher, transport, pending } = create({ readahead: true, open: false })
    for (const at of range(0, 6)) fetcher.readAhead(at, at + 1)
    demand(100)
    transport.open()
    assert.equal(pending()[0], 100)
    // The rest is bounded, so that a demand never waits behind a long queue.
    assert.equal(pending().length, 1 + 16)
    demand(101)
    assert.equal(pending().at(-1), 101)
  })

  it('demand makes a chunk that waits to be fetched ahead one that somebody waits for', () => {
    const { demand, fetcher, transport, pending, done } = create({ readahead: true, open: false })
    for (const at of range(0, 6)) fetcher.readAhead(at, at + 1)
    demand(20)
    transport.open()
    assert.equal(pending()[0], 20)
    assert.equal(transport.pending[0]?.priority, 0)
    assert.equal(pending().filter((chunk) => chunk === 20).length, 1)
    transport.answerAll()
    assert.deepEqual(done, [20])
  })

  it('demand of a chunk that is being fetched ahead waits for that', () => {
    const { demand, fetcher, transport, done, pendingIndex } = create({ readahead: true })
    for (const at of range(0, 3)) fetcher.readAhead(at, at + 1)
    demand(4)
    assert.equal(transport.requests.filter(({ chunkIndex }) => chunkIndex === 4).length, 1)
    transport.answer(pendingIndex(4))
    assert.deepEqual(done, [4])
  })

  it('forgets what waits longest to be fetched ahead when there is too much', () => {
    const { fetcher, transport, pending, demand } = create({ readahead: true, open: false })
    for (const stream of [0, 40, 80, 120]) {
      for (const at of range(stream, stream + 8)) fetcher.readAhead(at, at + 1)
    }
    // Forgotten altogether, not only left out of the queue.
    demand(2)
    transport.open()
    assert.equal(pending()[0], 2)
    transport.answerAll()
    assert.equal(transport.requests.length, 1 + 64)
  })

  it('fetches ahead as before after the connection was lost, and all that waits', () => {
    const { fetcher, transport, pending } = create({ readahead: true })
    for (const stream of [0, 40]) {
      for (const at of range(stream, stream + 8)) fetcher.readAhead(at, at + 1)
    }
    const before = pending()
    assert.equal(before.length, 16)
    transport.lose()
    transport.open()
    assert.deepEqual(pending(), before)
    assert.ok(transport.pending.every(({ priority }) => priority === 1))
    transport.answerAll()
    const asked = transport.requests.slice(before.length).map(({ chunkIndex }) => chunkIndex)
    assert.deepEqual(asked, [...range(2, 24), ...range(42, 64)])
  })

  it('asks again for what was in flight when the connection was lost, before all else', () => {
    const { demand, transport, done, pending } = create({ tierBytes: RAM_TIER_BYTES_MIN })
    for (const chunk of range(0, 20)) demand(chunk)
    const before = pending()
    transport.answer(1)
    transport.lose()
    assert.deepEqual(done, [1])
    transport.open()
    assert.deepEqual(
      pending().slice(0, before.length - 1),
      before.filter((chunk) => chunk !== 1),
    )
    transport.answerAll()
    assert.deepEqual(new Set(done), new Set(range(0, 20)))
    assert.equal(done.length, 20)
  })

  it('takes no answer of a connection that was lost', () => {
    const { demand, transport, done } = create()
    demand(0)
    const [request] = transport.pending
    transport.lose()
    transport.open()
    const header = { requestId: request?.requestId ?? 0, encoding: CHUNK_ENCODING.zero }
    transport.deliver({ ...header, rawBytes: CHUNK_BYTES }, new Uint8Array(0))
    transport.deliver({ ...header, requestId: 99, rawBytes: CHUNK_BYTES }, new Uint8Array(0))
    assert.deepEqual(done, [])
    transport.answerAll()
    assert.deepEqual(done, [0])
  })

  it('waits while there is no server, and rejects nobody', () => {
    const { demand, transport, done, pending } = create({ open: false })
    demand(0)
    assert.deepEqual(pending(), [])
    transport.open()
    transport.lose()
    transport.lose()
    assert.deepEqual(done, [])
    transport.open()
    transport.answerAll()
    assert.deepEqual(done, [0])
  })

  it('asks again for a chunk that does not decode, and thrice at most', () => {
    const { demand, transport, done, unreadable, fetcher } = create()
    demand(7)
    transport.answerWith(0, { payload: Buffer.from('noise') })
    transport.answerWith(0, {
      encoding: CHUNK_ENCODING.raw,
      payload: Buffer.alloc(100),
      rawBytes: 100,
    })
    assert.deepEqual(done, [])
    transport.answer()
    assert.deepEqual(done, [7])
    demand(8)
    demand(8)
    for (let attempt = 0; attempt < 3; attempt += 1) {
      transport.answerWith(0, { payload: Buffer.from('noise') })
    }
    assert.deepEqual(unreadable, [8])
    assert.deepEqual(
      done.slice(1).map((error) => (error as { code: string }).code),
      ['CHUNK_CORRUPT', 'CHUNK_CORRUPT'],
    )
    // Whoever asks next may have more luck.
    demand(8)
    transport.answer()
    assert.equal(done.at(-1), 8)
    assert.equal(fetcher.chunksReceived, 3 + 3 + 1)
  })

  it('a chunk that is damaged does not keep its frames', () => {
    const { demand, transport, tier, unreadable } = create({ tierBytes: RAM_TIER_BYTES_MIN })
    for (const chunk of range(0, 200)) {
      demand(chunk)
      while (transport.pending.length > 0) {
        transport.answerWith(0, { payload: Buffer.from('noise') })
      }
    }
    assert.equal(unreadable.length, 200)
    // All of the tier can still be had.
    const room = RAM_TIER_BYTES_MIN / CHUNK_BYTES - 8
    for (const _ of range(0, room)) assert.ok(tier.reserve(CHUNK_BYTES) !== undefined)
  })

  it('a zero chunk takes no frames', () => {
    const { demand, transport, tier, done } = create({ tierBytes: RAM_TIER_BYTES_MIN })
    for (const chunk of range(0, 200)) {
      demand(chunk)
      transport.answerWith(0, { encoding: CHUNK_ENCODING.zero, payload: new Uint8Array(0) })
    }
    assert.equal(done.length, 200)
    for (const chunk of range(0, 200)) assert.ok(tier.has(chunk * CHUNK_BLOCKS))
  })

  it('waits for readers when they hold the tier, and goes on when they are done', async () => {
    const { demand, transport, tier, done } = create({ tierBytes: RAM_TIER_BYTES_MIN })
    const reader = new ReaderEpochs(tier.memory.epochs).claim()
    for (const chunk of range(0, 200)) demand(chunk)
    let rounds = 0
    for (; done.length < 200; rounds += 1) {
      const before = done.length
      reader.enter()
      transport.answerAll()
      const held = done.length - before
      assert.ok(held <= RAM_TIER_BYTES_MIN / CHUNK_BYTES, `${held} chunks, none of them evicted`)
      reader.leave()
      while (done.length < 200 && transport.pending.length === 0) await new Promise(setImmediate)
    }
    assert.ok(rounds > 2)
    assert.deepEqual(new Set(done), new Set(range(0, 200)))
  })

  it('close rejects all who wait, and whoever comes later', () => {
    const { demand, fetcher, transport, done, pending } = create()
    for (const chunk of range(0, 70)) demand(chunk)
    fetcher.close()
    demand(80)
    assert.equal(done.length, 71)
    assert.ok(done.every((error) => (error as Error).name === 'AbortError'))
    const sent = transport.requests.length
    const [first] = pending()
    assert.equal(first, 0)
    transport.answerAll()
    transport.lose()
    transport.open()
    fetcher.readAhead(0, 1)
    assert.equal(transport.requests.length, sent)
    assert.equal(done.length, 71)
  })
})
