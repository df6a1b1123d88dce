import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LeafWait, type LeafWish } from '#agent/fetch/leaf-wait.ts'
import { PRIORITY, type Priority } from '#shared/wire/frame.ts'

function wish(want: Priority, block = 0): LeafWish {
  return { want, block, onLeaf: () => undefined, onClosed: () => undefined }
}

describe('LeafWait', () => {
  it('tells the most urgent first, and those of one priority in the order they came', () => {
    const wait = new LeafWait(0)
    for (const [want, block] of [
      [PRIORITY.hydration, 1],
      [PRIORITY.demand, 2],
      [PRIORITY.prefetch, 3],
      [PRIORITY.demand, 4],
    ] as const) {
      wait.add(wish(want, block))
    }
    assert.deepEqual(
      wait.wishes.map(({ block }) => block),
      [2, 4, 3, 1],
    )
  })

  it('wants what the most urgent wish wants, and what is prefetched before hydration', () => {
    const wait = new LeafWait(0)
    assert.equal(wait.want, PRIORITY.hydration)
    wait.isPrefetched = true
    wait.add(wish(PRIORITY.hydration))
    assert.equal(wait.want, PRIORITY.prefetch)
    wait.add(wish(PRIORITY.demand))
    assert.equal(wait.want, PRIORITY.demand)
  })
})
