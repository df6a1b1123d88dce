import assert from 'node:assert/strict'
import { it } from 'node:test'
import { retryPauseMs } from '#agent/session/retry-pause.ts'

it('retryPauseMs stays below a second for minutes, and then is five', () => {
  const longest = [0, 1, 2, 3, 199, 200, 1000].map((failures) => retryPauseMs(failures, 0))
  assert.deepEqual(longest, [250, 500, 750, 750, 750, 5000, 5000])
})

it('retryPauseMs spreads clients that lost a server together over half of it', () => {
  assert.equal(retryPauseMs(500, 0.5), 3750)
  const pauses = Array.from({ length: 1000 }, () => retryPauseMs(500))
  assert.ok(pauses.every((pauseMs) => pauseMs > 2500 && pauseMs <= 5000))
  // Each fifth of the range has its share; 100 of 1000 is half of what is expected.
  for (let fifth = 0; fifth < 5; fifth += 1) {
    const from = 2500 + fifth * 500
    assert.ok(pauses.filter((it) => it > from && it <= from + 500).length > 100)
  }
})
