import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setClock } from '#agent/machine/clock.ts'

const SERVER_MS = Date.UTC(2026, 10, 26)

describe('setClock', () => {
  const setTo: number[] = []
  const set = (seconds: number) => setTo.push(seconds) > 0

  it('sets a clock that is off by more than a minute, and says by how much it was', () => {
    for (const offMs of [61_000, -61_000, -40 * 365 * 86_400_000, 70 * 365 * 86_400_000]) {
      setTo.length = 0
      assert.equal(setClock(SERVER_MS, { nowMs: SERVER_MS + offMs, set }), offMs)
      assert.deepEqual(setTo, [SERVER_MS / 1000])
    }
  })

  it('leaves one alone that is about right', () => {
    setTo.length = 0
    for (const offMs of [0, 59_000, -59_000]) {
      assert.equal(setClock(SERVER_MS, { nowMs: SERVER_MS + offMs, set }), undefined)
    }
    assert.deepEqual(setTo, [])
  })

  it('says nothing of what could not be set', () => {
    assert.equal(setClock(SERVER_MS, { nowMs: 0, set: () => false }), undefined)
  })
})
