import assert from 'node:assert/strict'
import { it } from 'node:test'
import { parseRate, parseShare } from '#shared/amounts.ts'

it('parseRate() knows the units people write', () => {
  const rates: [string, number][] = [
    ['5MB/s', 5_000_000],
    ['5M', 5_000_000],
    ['5 mb/s', 5_000_000],
    ['800KiB/s', 819_200],
    ['1.5GiB', 1_610_612_736],
    ['40Mbit/s', 5_000_000],
    ['1000', 1000],
    ['none', 0],
    ['unlimited', 0],
    ['0', 0],
  ]
  for (const [text, expected] of rates) assert.equal(parseRate(text), expected, text)
  for (const wrong of ['', 'fast', '-1', '5 apples', '1e9', '0.1', '5MB/h', 'M', '9'.repeat(30)]) {
    assert.throws(() => parseRate(wrong), { code: 'INVALID_ARGUMENT' }, wrong)
  }
})

it('parseShare() takes a percentage, or nothing for everything', () => {
  assert.deepEqual(['', '5%', '100 %', '0.5%', '0%'].map(parseShare), [1, 0.05, 1, 0.005, 0])
  for (const wrong of ['5', '101%', '-5%', 'half', '%']) {
    assert.throws(() => parseShare(wrong), { code: 'INVALID_ARGUMENT' }, wrong)
  }
})
