/**
 * Waits a moment before the next read where that gathers requests. A peer with many requests under
 * way and a server that answers each at once fall into step: one request, one read, one write, one
 * wake-up. Reading a little later finds many at a time, and saves half of the CPU of both.
 *
 * Only a peer that was ahead (the last read had not to wait for it) is made to wait, and only as long
 * as that pays: when a few pauses bring few requests each, the peer has few under way, and is left
 * alone for a while, longer each time. A peer that waits for each answer never notices.
 */

/** A read that took less found its bytes there. One that waits takes as long as two wake-ups. */
const AHEAD_MS = 0.003

/** The shortest there is: the kernel adds its timer slack of 50 us (prctl(2), PR_SET_TIMERSLACK). */
const PAUSE_MS = 0.001

/** Requests per pause from which on it pays: eight under way come faster one by one. */
const WORTH_REQUESTS = 9

/** Pauses that are judged together: the first ones find the peer still in step. */
const JUDGED_PAUSES = 4

/** Most reads without a pause before it is tried again: the try then costs 1 % of the time. */
const REST_READS_MAX = 2048

export class Gathering {
  readonly #word = new Int32Array(new SharedArrayBuffer(4))
  readonly #pause: (milliseconds: number) => void
  #peerIsAhead = false
  #hasPaused = false
  #pauses = 0
  #requests = 0
  #restReads = 0
  #nextRestReads = 1

  /** `pause` is only given by tests. */
  constructor(pause?: (milliseconds: number) => void) {
    this.#pause = pause ?? ((milliseconds) => Atomics.wait(this.#word, 0, 0, milliseconds))
  }

  /** Call before each read, with nothing left to send. */
  beforeRead(): void {
    if (!this.#peerIsAhead) return
    if (this.#restReads > 0) {
      this.#restReads -= 1
      return
    }
    this.#hasPaused = true
    this.#pause(PAUSE_MS)
  }

  /** Call with how long the read took. */
  afterRead(milliseconds: number): void {
    this.#peerIsAhead = milliseconds < AHEAD_MS
  }

  /** Call with the number of requests the read brought. */
  served(requestCount: number): void {
    if (!this.#hasPaused) return
    this.#hasPaused = false
    this.#pauses += 1
    this.#requests += requestCount
    if (this.#pauses === JUDGED_PAUSES) this.#judge()
  }

  #judge(): void {
    const isWorthIt = this.#requests >= JUDGED_PAUSES * WORTH_REQUESTS
    this.#pauses = 0
    this.#requests = 0
    this.#restReads = isWorthIt ? 0 : this.#nextRestReads
    this.#nextRestReads = isWorthIt ? 1 : Math.min(REST_READS_MAX, 2 * this.#nextRestReads)
  }
}
