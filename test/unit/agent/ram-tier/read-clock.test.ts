import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { monotonicMs, ReadClock } from '#agent/ram-tier/read-clock.ts'

describe('ReadClock', () => {
  it('counts whole milliseconds from 1, and never back', () => {
    const clock = new ReadClock(monotonicMs())
    let last = clock.now()
    assert.ok(last >= 1 && last < 100)
    for (let count = 0; count < 10_000; count += 1) {
      const now = clock.now()
      assert.ok(Number.isInteger(now) && now >= last)
      last = now
    }
    assert.equal(new ReadClock(monotonicMs() + 1e6).now(), 1)
  })

  it('is the same in another thread, whenever that began', async () => {
    const beganAtMs = monotonicMs()
    const url = new URL('../../../../agent/ram-tier/read-clock.ts', import.meta.url).href
    const source = `
      const { parentPort } = require('node:worker_threads')
      import(${JSON.stringify(url)}).then(({ ReadClock }) => {
        parentPort.postMessage(new ReadClock(${beganAtMs}).now())
      })`
    const before = new ReadClock(beganAtMs).now()
    const worker = new Worker(source, { eval: true })
    const there = await new Promise<number>((resolve, reject) => {
      worker.once('message', resolve).once('error', reject)
    })
    const after = new ReadClock(beganAtMs).now()
    assert.ok(there >= before && there <= after, `${before} ${there} ${after}`)
    await worker.terminate()
  })
})
