import assert from 'node:assert/strict'
import { it } from 'node:test'
import { RateLimiter } from '#server/administrators/rate-limiter.ts'

it('lets a burst pass, then as many as the rate, each key by itself', () => {
  let nowMs = 0
  const limiter = new RateLimiter({ burst: 3, perSecond: 2, keysMax: 10 }, () => nowMs)
  const taken = (count: number, key = 'a') =>
    Array.from({ length: count }, () => limiter.take(key)).filter(Boolean).length
  assert.equal(taken(10), 3)
  assert.equal(taken(10, 'b'), 3)
  nowMs = 1000
  assert.equal(taken(10), 2)
  nowMs = 1_000_000
  assert.equal(taken(10), 3, 'no more than the burst, however long nothing came')
})

it('remembers no more keys than it may, and forgets the one not seen for longest', () => {
  const limiter = new RateLimiter({ burst: 1, perSecond: 0, keysMax: 2 }, () => 0)
  assert.deepEqual([limiter.take('a'), limiter.take('b'), limiter.take('a')], [true, true, false])
  assert.equal(limiter.take('c'), true)
  assert.equal(limiter.keyCount, 2)
  assert.equal(limiter.take('a'), false, 'seen after b')
  assert.equal(limiter.take('b'), true, 'forgotten')
})
