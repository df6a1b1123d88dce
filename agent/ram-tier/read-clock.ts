/**
 * The clock of first reads: whole milliseconds since the vDisk was opened, the same in all threads.
 * Counted from 1, since 0 marks a frame that nobody has read. Monotonic: the wall clock of a client
 * may jump by years while it boots.
 */

/** Milliseconds of the system's monotonic clock, which all threads share. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1000 + nanoseconds / 1e6
}

export class ReadClock {
  readonly #offsetMs: number

  /** `beganAtMs` as `monotonicMs` says. */
  constructor(beganAtMs: number) {
    // performance.now() begins at 0 in each thread, but allocates nothing.
    this.#offsetMs = monotonicMs() - performance.now() - beganAtMs
  }

  /** What a first read is marked with. */
  now(): number {
    return 1 + Math.max(0, Math.floor(performance.now() + this.#offsetMs))
  }
}
