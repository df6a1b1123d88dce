import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { PathLoad } from '#agent/fetch/path-load.ts'
import { PathWindow, WINDOW_BYTES_AT_FIRST, WINDOW_BYTES_MAX } from '#agent/fetch/path-window.ts'

/** Longer than a probe may take. */
const LONG_MS = 2_000

describe('PathLoad', () => {
  it('has room for one object when nothing is on its way, and for as much as the window has', () => {
    const load = new PathLoad()
    assert.ok(load.hasRoom(2 * WINDOW_BYTES_MAX, 0))
    load.send(WINDOW_BYTES_AT_FIRST - 10, 0)
    assert.ok(load.hasRoom(10, 0))
    assert.ok(!load.hasRoom(11, 0))
  })

  it('is empty when all that was sent came, was dropped, or the connection is lost', () => {
    const load = new PathLoad()
    const [first, second] = [load.send(1000, 0), load.send(0, 0)]
    load.arrived(first, 900, 5)
    load.arrived(first, 900, 6)
    assert.deepEqual([load.bytes, load.isEmpty], [0, false])
    load.dropped(second)
    assert.ok(load.isEmpty)
    const late = load.send(500, 0)
    load.reset()
    load.arrived(late, 500, 7)
    load.dropped(late)
    assert.deepEqual([load.bytes, load.isEmpty, load.window.usualMs], [0, true, 0])
  })

  it('counts no longer on what did not come for a minute of sweeps', () => {
    const load = new PathLoad()
    load.send(1000, 0)
    for (let sweeps = 0; sweeps < 12; sweeps += 1) load.sweep()
    load.send(10, 0)
    assert.equal(load.bytes, 1010)
    load.sweep()
    assert.equal(load.bytes, 10)
  })

  it('refuses fractions of bytes, which would not come back to none', () => {
    assert.throws(() => new PathLoad().send(0.35 * 4096, 0))
  })

  it('holds all back for a look at the empty path, and goes on when something came alone', () => {
    const load = new PathLoad(new PathWindow(100))
    load.arrived(load.send(1000, 0), 1000, 5)
    const [last, other] = [load.send(1000, 200), load.send(1000, 200)]
    load.arrived(last, 1000, 207)
    assert.ok(!load.hasRoom(1, 208))
    load.arrived(other, 1000, 209)
    assert.ok(load.hasRoom(1000, 210), 'one may go when all has come')
    const alone = load.send(1400, 210)
    assert.ok(!load.hasRoom(1, 211))
    load.arrived(alone, 30, 217) // it packs better than usual
    load.send(1000, 218)
    assert.ok(load.hasRoom(1000, 218))
    assert.equal(load.window.leastMs, 7)
  })

  it('goes on after a second when something does not come at all', () => {
    const load = new PathLoad(new PathWindow(100))
    load.arrived(load.send(1000, 0), 1000, 5)
    load.send(1000, 6)
    load.arrived(load.send(1000, 200), 1000, 207)
    assert.ok(!load.hasRoom(1, 208))
    assert.ok(load.hasRoom(1000, 208 + LONG_MS))
    load.arrived(load.send(1000, 2300), 1000, 2307)
    assert.ok(load.hasRoom(1000, 2310), 'and does not look again at once')
  })
})
