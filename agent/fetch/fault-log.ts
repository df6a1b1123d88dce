/** Counts objects that came wrong, and tells of them now and then: a server's bad disk has many. */
import type { ObjectName } from '#shared/wire/frame.ts'

export interface ObjectFault extends ObjectName {
  /** Since the last time one was told. */
  readonly count: number
  readonly error: Error
}

const TELL_INTERVAL_MS = 60_000

export class FaultLog {
  readonly #onFault: (fault: ObjectFault) => void
  #untold = 0
  #total = 0
  #toldAtMs = Number.NEGATIVE_INFINITY

  constructor(onFault: (fault: ObjectFault) => void) {
    this.#onFault = onFault
  }

  get total(): number {
    return this.#total
  }

  add({ level, position }: ObjectName, error: Error, nowMs: number): void {
    this.#total += 1
    this.#untold += 1
    if (nowMs - this.#toldAtMs < TELL_INTERVAL_MS) return
    this.#toldAtMs = nowMs
    this.#onFault({ level, position, count: this.#untold, error })
    this.#untold = 0
  }
}
