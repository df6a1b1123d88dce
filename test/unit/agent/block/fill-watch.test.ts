import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FillWatch } from '#agent/block/fill-watch.ts'
import { CONTROL_FILL_LEVEL } from '#agent/block/write-cache-files.ts'
import { eventually } from '#test/support/eventually.ts'

function create(level = 0) {
  const control = new SharedArrayBuffer(64)
  const words = new Int32Array(control)
  words[CONTROL_FILL_LEVEL] = level
  const reached: number[] = []
  const watch = new FillWatch(control, (level) => reached.push(level))
  const set = (level: number) => {
    Atomics.store(words, CONTROL_FILL_LEVEL, level)
    Atomics.notify(words, CONTROL_FILL_LEVEL)
  }
  /** Sets a level and waits until the watch waits again. */
  const change = async (level: number) => {
    set(level)
    await new Promise(setImmediate)
    await new Promise(setImmediate)
  }
  return { watch, reached, set, change }
}

describe('FillWatch', () => {
  it('tells each level as it is reached, and none that is left', async () => {
    const { watch, reached, change, set } = create()
    set(75)
    await eventually('75 %', () => reached.length === 1)
    set(90)
    await eventually('90 %', () => reached.length === 2)
    await change(75)
    await change(0)
    set(75)
    await eventually('75 % again', () => reached.length === 3)
    assert.deepEqual(reached, [75, 90, 75])
    watch.close()
  })

  it('tells at once what a cache that is opened has reached already', () => {
    const { watch, reached } = create(90)
    assert.deepEqual(reached, [90])
    watch.close()
  })

  it('tells nothing after it was closed', async () => {
    const { watch, reached, change } = create()
    watch.close()
    await change(75)
    assert.deepEqual(reached, [])
  })
})
