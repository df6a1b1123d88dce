import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it, mock } from 'node:test'
import { BootEnd } from '#agent/boot/boot-end.ts'

describe('BootEnd', () => {
  let ends: boolean[]
  let end: BootEnd

  beforeEach(() => {
    mock.timers.enable({ apis: ['setTimeout'] })
    ends = []
    end = new BootEnd({ endBoot: (isWhole) => ends.push(isWhole) })
  })
  afterEach(() => mock.timers.reset())

  it('is half a minute after the login', () => {
    end.rootMounted()
    mock.timers.tick(60_000)
    end.loginOffered()
    mock.timers.tick(29_000)
    assert.deepEqual(ends, [])
    mock.timers.tick(1_000)
    assert.deepEqual(ends, [true])
    end.end()
    mock.timers.tick(1_000_000)
    assert.deepEqual(ends, [true], 'once')
  })

  it('is the shutdown when that comes first; a boot without a login is not whole then', () => {
    end.rootMounted()
    end.loginOffered()
    end.end()
    assert.deepEqual(ends, [true])
    const other = new BootEnd({ endBoot: (isWhole) => ends.push(isWhole) })
    other.rootMounted()
    mock.timers.tick(100_000)
    other.end()
    assert.deepEqual(ends, [true, false])
  })

  it('is five minutes after the root is mounted where no login is ever offered', () => {
    end.rootMounted()
    mock.timers.tick(5 * 60_000)
    assert.deepEqual(ends, [true])
    end.loginOffered()
    mock.timers.tick(1_000_000)
    assert.deepEqual(ends, [true])
  })
})
