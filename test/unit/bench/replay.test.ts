import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { BootAccess } from '#test/bench/record-boot.ts'
import { replay } from '#test/bench/replay.ts'
import { planReplay } from '#test/bench/replay-plan.ts'

/** Reads named by their offsets: [offset, asked, answered]. */
function recordOf(...reads: readonly (readonly [number, number, number])[]): BootAccess[] {
  return reads.map(([offsetBytes, atMs, doneMs]) => ({
    atMs,
    doneMs,
    op: 'read',
    offsetBytes,
    sizeBytes: 4096,
  }))
}

/** 0 and 1 are under way together; 2 waits for 1 and not for 0; 3 waits for all. */
const BOOT = recordOf([0, 0, 30], [1, 1, 10], [2, 15, 40], [3, 50, 60])

describe('planReplay()', () => {
  it('lets a read wait for those that were answered before it was asked for, and think', () => {
    const plan = planReplay(BOOT, 5)
    assert.deepEqual(
      plan.map(({ afterDone, doneRank, thinkMs }) => ({ afterDone, doneRank, thinkMs })),
      [
        { afterDone: 0, doneRank: 1, thinkMs: 0 },
        { afterDone: 0, doneRank: 0, thinkMs: 0.2 },
        { afterDone: 1, doneRank: 2, thinkMs: 1 },
        { afterDone: 3, doneRank: 3, thinkMs: 2 },
      ],
    )
  })

  it('does not think when the divisor is infinite', () => {
    assert.ok(planReplay(BOOT, Number.POSITIVE_INFINITY).every(({ thinkMs }) => thinkMs === 0))
  })

  it('leaves writes out', () => {
    const write: BootAccess = { atMs: 5, doneMs: 6, op: 'write', offsetBytes: 9, sizeBytes: 1 }
    const plan = planReplay([...BOOT, write], 1)
    assert.deepEqual(plan, planReplay(BOOT, 1))
  })
})

/** Answers when it is told to. */
class Device {
  readonly asked: number[] = []
  readonly #done = new Map<number, () => void>()

  readonly read = (offsetBytes: number, _sizeBytes: number, done: () => void): void => {
    this.asked.push(offsetBytes)
    this.#done.set(offsetBytes, done)
  }

  answer(offsetBytes: number): void {
    this.#done.get(offsetBytes)?.()
  }
}

describe('replay()', () => {
  it('keeps as many reads under way as the record had, whatever comes first', async () => {
    const device = new Device()
    const ended = replay(planReplay(BOOT, Number.POSITIVE_INFINITY), device.read)
    assert.deepEqual(device.asked, [0, 1])
    device.answer(0) // in the record it came after 1, and 2 did not wait for it
    assert.deepEqual(device.asked, [0, 1])
    device.answer(1)
    assert.deepEqual(device.asked, [0, 1, 2], '3 waits for 2')
    device.answer(2)
    assert.deepEqual(device.asked, [0, 1, 2, 3])
    device.answer(3)
    const { latenciesMs } = await ended
    assert.equal(latenciesMs.length, 4)
    assert.ok(latenciesMs.every((it) => it >= 0))
  })

  it('takes the time that was thought, and not a millisecond for each timer', async () => {
    // A hundred reads, each 0.4 ms of thinking behind the one before: timers of 1 ms would take twice as long.
    const record = recordOf(
      ...Array.from({ length: 100 }, (_, at) => [at, at * 0.5, at * 0.5 + 0.1] as const),
    )
    const beginMs = performance.now()
    for (const _ of record) await setTimeout(0.4)
    const timersMs = performance.now() - beginMs
    const { runMs } = await replay(planReplay(record, 1), (_, __, done) => setImmediate(done))
    assert.ok(runMs >= 38, `${runMs} ms`)
    assert.ok(runMs < 0.8 * timersMs, `${runMs} ms, and timers alone ${timersMs} ms`)
  })
})
