import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  AHEAD_BLOCKS_AT_FIRST,
  AHEAD_BLOCKS_MAX,
  SequentialReadahead,
} from '#agent/fetch/sequential-readahead.ts'

const ahead = (readahead: SequentialReadahead, first: number, end: number) => {
  const next = readahead.next({ first, end })
  return [next.first, next.end]
}

describe('SequentialReadahead', () => {
  it('fetches nothing ahead of single reads', () => {
    const readahead = new SequentialReadahead(10_000)
    for (const first of [5000, 100, 3000, 7000, 4110]) {
      const [begin, end] = ahead(readahead, first, first + 9)
      assert.equal(begin, end)
    }
  })

  it('fetches twice as much each time a read goes on, up to the most, and nothing twice', () => {
    const readahead = new SequentialReadahead(10_000)
    let read = 0
    let fetched = 0
    const lengths: number[] = []
    for (let count = 0; count < 7; count += 1) {
      const [begin = 0, end = 0] = ahead(readahead, read, read + 8)
      if (end > begin) {
        assert.equal(begin, Math.max(fetched, read + 8))
        lengths.push(end - read - 8)
        fetched = end
      }
      read = Math.max(fetched, read + 8)
    }
    const first = AHEAD_BLOCKS_AT_FIRST
    const last = AHEAD_BLOCKS_MAX
    assert.deepEqual(lengths, [first, 2 * first, 4 * first, last, last, last])
  })

  it('goes on when the chunk that ends what was fetched is longer than what was asked for', () => {
    const readahead = new SequentialReadahead(10_000)
    readahead.next({ first: 0, end: 8 })
    assert.deepEqual(ahead(readahead, 8, 16), [16, 48])
    assert.deepEqual(ahead(readahead, 48 + 30, 48 + 38), [86, 86 + 64])
  })

  it('the same chunk again is no progress', () => {
    const readahead = new SequentialReadahead(10_000)
    readahead.next({ first: 0, end: 8 })
    for (let count = 0; count < 5; count += 1) assert.deepEqual(ahead(readahead, 0, 8), [8, 8])
    assert.deepEqual(ahead(readahead, 8, 16), [16, 48])
  })

  it('fetches nothing beyond the end', () => {
    const readahead = new SequentialReadahead(50)
    readahead.next({ first: 20, end: 30 })
    assert.deepEqual(ahead(readahead, 30, 40), [40, 50])
    assert.deepEqual(ahead(readahead, 40, 50), [50, 50])
  })

  it('follows eight readers at a time, and forgets the one that was quiet longest', () => {
    const readahead = new SequentialReadahead(100_000)
    const begin = (reader: number) => reader * 1000
    for (let reader = 0; reader < 8; reader += 1) ahead(readahead, begin(reader), begin(reader) + 8)
    for (let reader = 0; reader < 8; reader += 1) {
      const at = begin(reader) + 8
      assert.deepEqual(ahead(readahead, at, at + 8), [at + 8, at + 40], `reader ${reader}`)
    }
    ahead(readahead, 90_000, 90_008)
    assert.deepEqual(ahead(readahead, 56, 64), [64, 64])
    assert.deepEqual(ahead(readahead, 7056, 7064), [7064, 7128])
  })
})
