/** Replays the plan of a boot with anything that can read. */
import type { PlannedRead, ReplayPlan } from './replay-plan.ts'

/** Reads, and calls back when the bytes are there. */
export type Read = (offsetBytes: number, sizeBytes: number, done: () => void) => void

export interface ReplayResult {
  readonly runMs: number
  /** How long each read took, in the order of the plan. */
  readonly latenciesMs: readonly number[]
}

export async function replay(plan: ReplayPlan, read: Read): Promise<ReplayResult> {
  return await new Promise((resolve) => new Replay(plan, read, resolve).begin())
}

class Replay {
  readonly #plan: ReplayPlan
  readonly #read: Read
  readonly #onEnd: (result: ReplayResult) => void
  readonly #latenciesMs: number[]
  /** By their place in the order of answers, which of them there are. */
  readonly #isDone: Uint8Array
  /** All before this place are answered. */
  #donePrefix = 0
  /** The next read that waits for others. */
  #next = 0
  #answered = 0
  #beginMs = 0
  /** How much later than planned reads were asked for. */
  #lateMs = 0

  constructor(plan: ReplayPlan, read: Read, onEnd: (result: ReplayResult) => void) {
    this.#plan = plan
    this.#read = read
    this.#onEnd = onEnd
    this.#latenciesMs = plan.map(() => Number.NaN)
    this.#isDone = new Uint8Array(plan.length)
  }

  begin(): void {
    this.#beginMs = performance.now()
    this.#release()
  }

  #release(): void {
    for (let read = this.#plan[this.#next]; read !== undefined; read = this.#plan[this.#next]) {
      if (read.afterDone > this.#donePrefix) return
      this.#think(read, this.#next)
      this.#next += 1
    }
  }

  /**
   * A timer rings up to a millisecond late, and there are thousands of short ones: what it was late is
   * taken off the thinking that follows.
   */
  #think(read: PlannedRead, index: number): void {
    const waitMs = Math.max(0, read.thinkMs - this.#lateMs)
    this.#lateMs -= read.thinkMs - waitMs
    if (waitMs === 0) return this.#ask(read, index)
    const dueMs = performance.now() + waitMs
    setTimeout(() => {
      this.#lateMs += Math.max(0, performance.now() - dueMs)
      this.#ask(read, index)
    }, waitMs)
  }

  #ask(read: PlannedRead, index: number): void {
    const askedMs = performance.now()
    this.#read(read.offsetBytes, read.sizeBytes, () => {
      this.#latenciesMs[index] = performance.now() - askedMs
      this.#isDone[read.doneRank] = 1
      while (this.#isDone[this.#donePrefix] === 1) this.#donePrefix += 1
      this.#answered += 1
      if (this.#answered < this.#plan.length) return this.#release()
      const runMs = performance.now() - this.#beginMs
      this.#onEnd({ runMs, latenciesMs: this.#latenciesMs })
    })
  }
}
