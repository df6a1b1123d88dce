import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Arrival, FRAME_BASE, RAM_TIER_BYTES_MIN, RamTier } from '#agent/ram-tier/ram-tier.ts'
import { ReaderEpochs } from '#agent/ram-tier/reader-epochs.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { KiB, MiB } from '#shared/units.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

const CHUNK_BYTES = 64 * KiB
const CHUNK_BLOCKS = CHUNK_BYTES / BLOCK_BYTES
const CHUNKS = RAM_TIER_BYTES_MIN / CHUNK_BYTES

const create = () => new RamTier(100 * MiB, RAM_TIER_BYTES_MIN)

/** Inserts a chunk of its number; returns whether there was room. */
function insert(tier: RamTier, chunk: number, arrival?: Arrival): boolean {
  const lengthBytes = CHUNK_BYTES
  const room = tier.reserve(lengthBytes)
  if (room === undefined) return false
  room.memory.fill(chunk, room.offset, room.offset + lengthBytes)
  tier.publish(room, chunk * CHUNK_BLOCKS, arrival)
  return true
}

/** As a worker does: reads one block of a chunk. */
function read(tier: RamTier, chunk: number, mark: number): void {
  const index = new Int32Array(tier.memory.index)
  new Uint32Array(tier.memory.marks)[(index[chunk * CHUNK_BLOCKS + 5] ?? 0) - FRAME_BASE] = mark
}

const has = (tier: RamTier, chunk: number) => tier.has(chunk * CHUNK_BLOCKS)

describe('RamTier', () => {
  it('forgets the oldest first, but what was read since has a second chance', () => {
    const tier = create()
    const [index, marks] = [new Int32Array(tier.memory.index), new Uint32Array(tier.memory.marks)]
    // Within the room that is not freed ahead.
    const some = CHUNKS / 2
    for (let chunk = 0; chunk < some; chunk += 1) assert.ok(insert(tier, chunk))
    // As a worker does: one block of chunk 1.
    marks[(index[CHUNK_BLOCKS + 5] ?? 0) - FRAME_BASE] = 1
    for (let chunk = some; chunk < CHUNKS + some / 2; chunk += 1) assert.ok(insert(tier, chunk))
    assert.ok(!has(tier, 0))
    assert.ok(has(tier, 1))
    assert.ok(!has(tier, 2))
    assert.ok(has(tier, CHUNKS))
    // Once only.
    for (let chunk = 200; chunk < 200 + CHUNKS; chunk += 1) assert.ok(insert(tier, chunk))
    assert.ok(!has(tier, 1))
  })

  it('goes on when everything was read', () => {
    const tier = create()
    const marks = new Uint32Array(tier.memory.marks)
    for (let chunk = 0; chunk < 3 * CHUNKS; chunk += 1) {
      assert.ok(insert(tier, chunk))
      marks.fill(1)
    }
  })

  it('spares what is guarded until it was read, and only while there is something else', () => {
    const tier = create()
    const guarded = CHUNKS / 2
    for (let chunk = 0; chunk < guarded; chunk += 1) assert.ok(insert(tier, chunk, 'guarded'))
    assert.equal(tier.guardedBytes, guarded * CHUNK_BYTES)
    for (let chunk = 100; chunk < 100 + 3 * CHUNKS; chunk += 1) assert.ok(insert(tier, chunk))
    for (let chunk = 0; chunk < guarded; chunk += 1) assert.ok(has(tier, chunk), `${chunk}`)
    read(tier, 3, 17)
    tier.harvest()
    assert.equal(tier.guardedBytes, (guarded - 1) * CHUNK_BYTES)
    for (let chunk = 400; chunk < 400 + 3 * CHUNKS; chunk += 1) assert.ok(insert(tier, chunk))
    assert.ok(!has(tier, 3))
    assert.ok(has(tier, 2))
    // Nothing but guarded: the oldest gives way.
    for (let chunk = 800; chunk < 800 + 2 * CHUNKS; chunk += 1) insert(tier, chunk, 'guarded')
    assert.ok(has(tier, 800 + 2 * CHUNKS - 1))
    assert.ok(tier.guardedBytes <= RAM_TIER_BYTES_MIN)
    tier.unguardAll()
    assert.equal(tier.guardedBytes, 0)
  })

  it('tells the first read of each chunk once: when harvested, or before it is forgotten', () => {
    const tier = create()
    const told: [number, number][] = []
    tier.onFirstRead((firstBlock, atMs) => told.push([firstBlock / CHUNK_BLOCKS, atMs]))
    insert(tier, 0, 'readahead')
    insert(tier, 1, 'guarded')
    insert(tier, 2, 'demanded')
    insert(tier, 3, 'readahead')
    tier.harvest()
    assert.deepEqual(told, [])
    for (const chunk of [0, 1, 2]) read(tier, chunk, 1000 + chunk)
    tier.harvest()
    tier.harvest()
    // Of one that was demanded it is known.
    assert.deepEqual(told, [
      [0, 999],
      [1, 1000],
    ])
    read(tier, 3, 5000)
    for (let chunk = 100; chunk < 100 + 3 * CHUNKS; chunk += 1) insert(tier, chunk)
    assert.ok(!has(tier, 3))
    assert.deepEqual(told.slice(2), [[3, 4999]])
  })

  it('gives no frame away that a reader may hold, until room says so', async () => {
    const tier = create()
    const reader = new ReaderEpochs(tier.memory.epochs).claim()
    let chunk = 0
    for (; chunk < CHUNKS; chunk += 1) insert(tier, chunk)
    reader.enter()
    const frames = Buffer.from(Buffer.from(tier.memory.frames))
    while (insert(tier, chunk)) chunk += 1
    const changed = Buffer.from(tier.memory.frames)
    // What was free before it became active may be written; no more than is freed ahead.
    let differing = 0
    for (let at = 0; at < frames.length; at += BLOCK_BYTES) {
      if (frames[at] !== changed[at]) differing += 1
    }
    assert.ok(differing <= RAM_TIER_BYTES_MIN / BLOCK_BYTES / 4, `${differing} frames`)
    const room = tier.room()
    let isThere = false
    void room.then(() => {
      isThere = true
    })
    await new Promise(setImmediate)
    assert.ok(!isThere)
    reader.leave()
    await room
    assert.ok(insert(tier, chunk))
  })

  it('copyTo copies any range that is here whole, and nothing when a block is missing', () => {
    const tier = create()
    assert.ok(insert(tier, 1))
    tier.publishZeros(2 * CHUNK_BLOCKS, CHUNK_BLOCKS)
    const target = Buffer.alloc(2 * CHUNK_BYTES - 1536, 0xee)
    assert.ok(tier.copyTo(target, CHUNK_BYTES + 512, target.length))
    assert.ok(target.subarray(0, CHUNK_BYTES - 512).equals(Buffer.alloc(CHUNK_BYTES - 512, 1)))
    assert.ok(target.subarray(CHUNK_BYTES - 512).equals(Buffer.alloc(CHUNK_BYTES - 1024)))
    target.fill(0xee)
    assert.ok(!tier.copyTo(target, 2 * CHUNK_BYTES + 1024, target.length))
    assert.ok(target.equals(Buffer.alloc(target.length, 0xee)))
  })

  it('copyTo counts as a read: what it has copied is told, and guarded no longer', () => {
    const tier = create()
    const told: number[] = []
    tier.onFirstRead((firstBlock) => told.push(firstBlock))
    insert(tier, 0, 'guarded')
    insert(tier, 1, 'guarded')
    const guardedBytes = tier.guardedBytes
    assert.ok(tier.copyTo(Buffer.alloc(BLOCK_BYTES), 0, BLOCK_BYTES))
    tier.harvest()
    assert.deepEqual(told, [0])
    assert.equal(tier.guardedBytes, guardedBytes / 2)
  })

  it('a chunk that was canceled is room for the next', () => {
    const tier = create()
    const room = tier.reserve(CHUNK_BYTES)
    assert.ok(room !== undefined)
    tier.cancel(room)
    assert.deepEqual(tier.reserve(CHUNK_BYTES), room)
  })

  it('misuse breaks an invariant', () => {
    const tier = create()
    const room = tier.reserve(CHUNK_BYTES)
    assert.ok(room !== undefined)
    tier.publish(room, 0)
    assert.throws(() => tier.publish(room, 0), /Invariant broken: frame \d+ is not reserved/)
    assert.throws(() => tier.cancel(room), /Invariant broken/)
    assert.throws(() => tier.reserve(0), /Invariant broken/)
    assert.throws(() => tier.reserve(CHUNK_BYTES_MAX + 1), /Invariant broken/)
    assert.throws(() => new RamTier(MiB, RAM_TIER_BYTES_MIN - 1), /Invariant broken/)
  })
})
