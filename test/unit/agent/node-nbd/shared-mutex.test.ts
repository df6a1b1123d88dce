import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { SharedMutex } from '#agent/node-nbd/shared-mutex.ts'

const WORKERS = 3
const ROUNDS = 5000

describe('SharedMutex', () => {
  it('lets one thread in at a time, and wakes those who wait', async () => {
    const memory = new SharedArrayBuffer(64)
    const words = new Int32Array(memory)
    const script = new URL('../../../support/mutex-worker.ts', import.meta.url)
    const workers = Array.from(
      { length: WORKERS },
      () => new Worker(script, { workerData: { memory, rounds: ROUNDS } }),
    )
    const exits = workers.map((worker) => once(worker, 'exit'))
    for (let ready = 0; ready < WORKERS; ready = Atomics.load(words, 2)) {
      await Atomics.waitAsync(words, 2, ready).value
    }
    Atomics.store(words, 3, 1)
    Atomics.notify(words, 3)
    assert.deepEqual((await Promise.all(exits)).flat(), [0, 0, 0])
    assert.equal(words[1], WORKERS * ROUNDS)
    // Free again, and nobody believed to be asleep.
    assert.equal(words[0], 0)
  })

  it('may be taken again once it was given back', () => {
    const words = new Int32Array(new SharedArrayBuffer(64))
    const mutex = new SharedMutex(words, 5)
    for (let round = 0; round < 3; round += 1) {
      mutex.lock()
      assert.equal(words[5], 1)
      mutex.unlock()
      assert.equal(words[5], 0)
    }
  })
})
