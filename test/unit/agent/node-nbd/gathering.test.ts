import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Gathering } from '#agent/node-nbd/gathering.ts'

/** Reads of a peer that was ahead, and of one that was waited for. */
const AHEAD_MS = 0.001
const WAITED_MS = 0.05

/** Makes so many reads that each bring as many requests. Returns the pauses before them. */
function pausesOf(
  reads: { readonly count: number; readonly tookMs: number; readonly requests: number },
  gathering: Gathering,
  paused: () => number,
): number {
  const before = paused()
  for (let read = 0; read < reads.count; read += 1) {
    gathering.beforeRead()
    gathering.afterRead(reads.tookMs)
    gathering.served(reads.requests)
  }
  return paused() - before
}

function createGathering() {
  let pauses = 0
  const gathering = new Gathering(() => {
    pauses += 1
  })
  return { gathering, paused: () => pauses }
}

describe('Gathering', () => {
  it('never makes a peer wait that waits itself', () => {
    const { gathering, paused } = createGathering()
    const reads = { count: 1000, tookMs: WAITED_MS, requests: 1 }
    assert.equal(pausesOf(reads, gathering, paused), 0)
  })

  it('pauses before every read as long as that brings many requests', () => {
    const { gathering, paused } = createGathering()
    const reads = { count: 1000, tookMs: AHEAD_MS, requests: 16 }
    assert.equal(pausesOf(reads, gathering, paused), 999) // the first knows nothing yet
  })

  it('leaves a peer alone that has few requests under way, longer each time', () => {
    const { gathering, paused } = createGathering()
    const few = { count: 4000, tookMs: AHEAD_MS, requests: 4 }
    // After each four pauses a rest of 1, 2, 4 … 1024 reads.
    assert.equal(pausesOf(few, gathering, paused), 4 * 11 + 4)
    assert.ok(pausesOf({ ...few, count: 100_000 }, gathering, paused) < 250)
  })

  it('comes back when there are many again, and stays', () => {
    const { gathering, paused } = createGathering()
    pausesOf({ count: 100_000, tookMs: AHEAD_MS, requests: 1 }, gathering, paused)
    const many = { count: 3000, tookMs: AHEAD_MS, requests: 20 }
    assert.ok(pausesOf(many, gathering, paused) > 900)
    assert.equal(pausesOf(many, gathering, paused), 3000)
  })

  it('judges several pauses together', () => {
    const { gathering, paused } = createGathering()
    for (let round = 0; round < 100; round += 1) {
      pausesOf({ count: 1, tookMs: AHEAD_MS, requests: 2 }, gathering, paused)
      pausesOf({ count: 1, tookMs: AHEAD_MS, requests: 30 }, gathering, paused)
    }
    assert.equal(paused(), 199)
  })
})
