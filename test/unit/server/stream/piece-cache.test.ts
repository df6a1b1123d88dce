import assert from 'node:assert/strict'
import { it, mock } from 'node:test'
import { PieceCache } from '#server/stream/piece-cache.ts'
import { SLAB_BYTES, SlabPool } from '#server/stream/slab-pool.ts'

function createCache(pieces: number) {
  const pool = new SlabPool()
  const cache = new PieceCache(pieces * SLAB_BYTES)
  const create = () => {
    const slab = pool.take()
    return { slab, bytes: slab.bytes.subarray(0, 10) }
  }
  return { cache, create }
}

it('PieceCache drops what was used longest ago, of any shelf, when it is full', () => {
  const { cache, create } = createCache(3)
  const [a, b] = [cache.shelf(), cache.shelf()]
  const first = create()
  a.put(0, first)
  b.put(0, create())
  a.put(1, create())
  assert.equal(a.get(0), first)
  a.put(2, create())
  assert.deepEqual([b.get(0), cache.count], [undefined, 3])
  assert.equal(a.get(0), first)
})

it('PieceCache gives memory back when nobody uses a piece any more', () => {
  const { cache, create } = createCache(1)
  const shelf = cache.shelf()
  const piece = create()
  shelf.put(0, piece)
  piece.slab.release() // who made it is done
  assert.ok(piece.slab.isUsed)
  piece.slab.retain() // being sent
  shelf.put(1, create())
  assert.ok(piece.slab.isUsed)
  piece.slab.release()
  assert.ok(!piece.slab.isUsed)
})

it('PieceCache.clear of a shelf leaves others alone', () => {
  const { cache, create } = createCache(9)
  const [a, b] = [cache.shelf(), cache.shelf()]
  for (let at = 0; at < 3; at += 1) a.put(at, create())
  b.put(0, create())
  a.clear()
  assert.deepEqual([a.get(0), cache.count], [undefined, 1])
})

it('PieceCache drops everything after a while of quiet', () => {
  mock.timers.enable({ apis: ['setInterval'] })
  let nowMs = 0
  const now = mock.method(performance, 'now', () => nowMs)
  try {
    const { cache, create } = createCache(9)
    const shelf = cache.shelf()
    shelf.put(0, create())
    nowMs += 9_000
    shelf.put(1, create())
    mock.timers.tick(5_000)
    assert.equal(cache.count, 2)
    nowMs += 2_000
    mock.timers.tick(5_000)
    assert.deepEqual([shelf.get(0), cache.count], [undefined, 1])
    nowMs += 20_000
    mock.timers.tick(5_000)
    assert.equal(cache.count, 0)
  } finally {
    now.mock.restore()
    mock.timers.reset()
  }
})
