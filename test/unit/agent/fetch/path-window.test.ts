import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  PathWindow,
  QUEUE_TARGET_MS,
  WINDOW_BYTES_MAX,
  WINDOW_BYTES_MIN,
} from '#agent/fetch/path-window.ts'
import { simulateLink } from '#test/support/simulated-link.ts'

const OBJECT_BYTES = 15_000

/** What demand reads waited beyond round trip and own transmission, sorted. */
function extraMs(
  demandMs: readonly number[],
  mbitPerSecond: number,
  roundTripMs: number,
): number[] {
  const ownMs = (OBJECT_BYTES * 8) / (mbitPerSecond * 1000)
  return demandMs.map((ms) => ms - roundTripMs - ownMs).sort((a, b) => a - b)
}

describe('PathWindow', () => {
  for (const [mbitPerSecond, roundTripMs] of [
    [25, 50],
    [25, 20],
    [25, 5],
    [25, 0.2],
    [100, 50],
    [100, 20],
    [100, 0.2],
    [1000, 50],
    [1000, 20],
    [1000, 0.2],
  ] as const) {
    it(`keeps ${mbitPerSecond} Mbit/s with ${roundTripMs} ms full, and demand reads quick`, () => {
      const link = simulateLink({
        mbitPerSecond,
        roundTripMs,
        objectBytes: OBJECT_BYTES,
        forMs: 4000,
        demandEveryMs: 97,
      })
      const extra = extraMs(link.demandMs, mbitPerSecond, roundTripMs)
      assert.ok((extra.at(-1) ?? 0) <= 50, `${extra.at(-1)} ms at most`)
      const usedBytes = link.bytesBetween(1000, 4000)
      const share = usedBytes / ((mbitPerSecond * 1e6 * 3) / 8)
      assert.ok(share > 0.95, `${share} of the bandwidth`)
    })
  }

  it('shrinks when the bandwidth breaks down', () => {
    const link = simulateLink({
      mbitPerSecond: (atMs) => (atMs < 2000 ? 1000 : 25),
      roundTripMs: 20,
      objectBytes: OBJECT_BYTES,
      forMs: 8000,
      demandEveryMs: 97,
    })
    // What was on its way takes two seconds. Asked for in the order of their number, one each 97 ms.
    const late = extraMs(link.demandMs.slice(Math.ceil(5500 / 97)), 25, 20)
    assert.ok((late.at(-1) ?? 0) <= 50, `${late.at(-1)} ms at most`)
    const share = link.bytesBetween(5500, 8000) / ((25e6 * 2.5) / 8)
    assert.ok(share > 0.95, `${share} of the bandwidth`)
  })

  it('finds out that the path has become longer', () => {
    const link = simulateLink({
      mbitPerSecond: 100,
      roundTripMs: (atMs) => (atMs < 2000 ? 5 : 120),
      objectBytes: OBJECT_BYTES,
      forMs: 50_000,
      demandEveryMs: 100_000,
    })
    const share = link.bytesBetween(40_000, 50_000) / ((100e6 * 10) / 8)
    assert.ok(share > 0.9, `${share} of the bandwidth`)
    assert.ok(Math.abs(link.window.leastMs - 121) < 2, `${link.window.leastMs} ms`)
  })

  it('does not grow while it is not used, and never beyond its bounds', () => {
    const window = new PathWindow()
    const before = window.bytes
    for (let at = 0; at < 1000; at += 1) window.arrived(1000, { atMs: at, aheadBytes: 0 }, at + 5)
    assert.equal(window.bytes, before)
    const full = (at: number) => ({ atMs: at, aheadBytes: window.bytes })
    for (let at = 1000; at < 20_000; at += 1) window.arrived(100_000, full(at), at + 5)
    assert.equal(window.bytes, WINDOW_BYTES_MAX)
    for (let at = 20_000; at < 25_000; at += 50) {
      window.arrived(100_000, full(at - 400), at)
    }
    assert.equal(window.bytes, WINDOW_BYTES_MIN)
  })

  it('a demand read tells how short the path is, never that it is full', () => {
    const window = new PathWindow()
    const before = window.bytes
    window.demandArrived(0, 20)
    window.demandArrived(0, 900)
    assert.equal(window.leastMs, 20)
    assert.equal(window.bytes, before)
    window.arrived(10_000, { atMs: 0, aheadBytes: before }, 20 + QUEUE_TARGET_MS - 1)
    assert.ok(window.bytes > before)
    window.reset()
    assert.equal(window.leastMs, 0)
  })
})
