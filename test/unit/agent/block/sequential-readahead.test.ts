import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { AHEAD_MAX, SequentialReadahead } from '#agent/block/sequential-readahead.ts'

const ahead = (readahead: SequentialReadahead, first: number, end: number) => {
  const next = readahead.next(first, end)
  return [next.first, next.end]
}

describe('SequentialReadahead', () => {
  it('fetches nothing ahead of single reads', () => {
    const readahead = new SequentialReadahead(1000)
    for (const first of [500, 10, 300, 700, 11 + 400]) {
      const [begin, end] = ahead(readahead, first, first + 2)
      assert.equal(begin, end)
    }
  })

  it('fetches twice as much each time a read goes on, up to AHEAD_MAX, and nothing twice', () => {
    const readahead = new SequentialReadahead(1000)
    let read = 0
    let fetched = 0
    const lengths: number[] = []
    for (let count = 0; count < 8; count += 1) {
      const [begin = 0, end = 0] = ahead(readahead, read, read + 1)
      if (end > begin) {
        assert.equal(begin, Math.max(fetched, read + 1))
        lengths.push(end - read - 1)
        fetched = end
      }
      read = Math.max(fetched, read + 1)
    }
    assert.deepEqual(lengths, [2, 4, 8, AHEAD_MAX, AHEAD_MAX, AHEAD_MAX, AHEAD_MAX])
  })

  it('goes on from a read within what was fetched ahead', () => {
    const readahead = new SequentialReadahead(1000)
    readahead.next(0, 1)
    assert.deepEqual(ahead(readahead, 1, 2), [2, 4])
    assert.deepEqual(ahead(readahead, 2, 3), [4, 7])
  })

  it('the same chunk again is no progress', () => {
    const readahead = new SequentialReadahead(1000)
    readahead.next(0, 1)
    for (let count = 0; count < 5; count += 1) assert.deepEqual(ahead(readahead, 0, 1), [1, 1])
    assert.deepEqual(ahead(readahead, 1, 2), [2, 4])
  })

  it('fetches nothing beyond the end', () => {
    const readahead = new SequentialReadahead(5)
    readahead.next(2, 3)
    assert.deepEqual(ahead(readahead, 3, 4), [4, 5])
    const [begin, end] = ahead(readahead, 4, 5)
    assert.ok(begin === end && end === 5)
  })

  it('follows eight readers at a time, and forgets the one that was quiet longest', () => {
    const readahead = new SequentialReadahead(10_000)
    for (let reader = 0; reader < 8; reader += 1) readahead.next(reader * 100, reader * 100 + 1)
    for (let reader = 0; reader < 8; reader += 1) {
      const at = reader * 100 + 1
      assert.deepEqual(ahead(readahead, at, at + 1), [at + 1, at + 3], `reader ${reader}`)
    }
    readahead.next(9000, 9001)
    assert.deepEqual(ahead(readahead, 4, 5), [5, 5])
    assert.deepEqual(ahead(readahead, 704, 705), [705, 709])
  })
})
