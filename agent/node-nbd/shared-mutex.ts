/**
 * A lock between threads in one word of shared memory. A thread that must wait sleeps; nobody spins.
 * After "Futexes Are Tricky" (Drepper 2011), mutex 2. Not recursive; a thread that dies holding it
 * never gives it back, so nothing that can fail for good runs under it.
 */
const FREE = 0
const LOCKED = 1
/** Locked, and somebody may be asleep. */
const CONTENDED = 2

export class SharedMutex {
  readonly #words: Int32Array<SharedArrayBuffer>
  readonly #index: number

  /** The word must be 0 at first. */
  constructor(words: Int32Array<SharedArrayBuffer>, index: number) {
    this.#words = words
    this.#index = index
  }

  lock(): void {
    const before = Atomics.compareExchange(this.#words, this.#index, FREE, LOCKED)
    if (before !== FREE) this.#wait()
  }

  unlock(): void {
    if (Atomics.exchange(this.#words, this.#index, FREE) === CONTENDED) {
      Atomics.notify(this.#words, this.#index, 1)
    }
  }

  #wait(): void {
    // Taken as contended even when nobody else is left: one needless notify is all it costs.
    while (Atomics.exchange(this.#words, this.#index, CONTENDED) !== FREE) {
      Atomics.wait(this.#words, this.#index, CONTENDED)
    }
  }
}
