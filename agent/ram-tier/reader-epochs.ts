/**
 * Tells when memory that was taken out of an index may be written again, though readers in other
 * threads take no lock: read-copy-update with epochs, in shared memory.
 *
 * A reader is *idle* (waits for requests, holds no memory) or *active* since a certain epoch. Who
 * takes memory out of the index advances the epoch afterwards. Once every reader is idle or active
 * since that epoch or later, no one can hold that memory: whoever was active at the time has been
 * idle since, and whoever became active later found the new index.
 *
 * That holds only if a reader's announcement is seen before it looks at the index, hence the
 * sequentially consistent store and load in `ReaderSlot.enter`.
 */
import { invariant } from '#shared/invariant.ts'

/** Connections of one export; the kernel uses one. */
export const READERS_MAX = 16

// Words of the shared memory. Each reader has a cache line of its own.
const EPOCH = 0
const WAITERS = 1
const SIGNAL = 2
const FIRST_READER = 16
const READER_WORDS = 16
// Within a reader's words:
const CLAIMED = 0
const ACTIVE = 1

const IDLE = 0
/** Epochs are odd, so that they never equal IDLE even after they have wrapped around. */
const EPOCH_STEP = 2

/** An epoch that has always passed. */
export const NO_EPOCH = 0

/** A reader that ended without a word would be waited for without end; look again this often. */
const LOOK_AGAIN_MS = 1_000

export function createReaderEpochs(): SharedArrayBuffer {
  const memory = new SharedArrayBuffer((FIRST_READER + READERS_MAX * READER_WORDS) * 4)
  new Int32Array(memory)[EPOCH] = 1
  return memory
}

export class ReaderEpochs {
  readonly #words: Int32Array<SharedArrayBuffer>

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory)
  }

  /** Call after something left the index; returns the epoch that must pass before it is reused. */
  advance(): number {
    return (Atomics.add(this.#words, EPOCH, EPOCH_STEP) + EPOCH_STEP) | 0
  }

  /** Whether no reader, but perhaps `except`, can hold what left the index before `epoch`. */
  hasPassed(epoch: number, except?: ReaderSlot): boolean {
    if (epoch === NO_EPOCH) return true
    for (let reader = 0; reader < READERS_MAX; reader += 1) {
      if (reader === except?.number) continue
      const active = Atomics.load(this.#words, readerWord(reader) + ACTIVE)
      // A difference, since epochs wrap around.
      if (active !== IDLE && ((active - epoch) | 0) < 0) return false
    }
    return true
  }

  /** Returns when the epoch has passed. Sleeps meanwhile and does not keep the process alive. */
  async pass(epoch: number): Promise<void> {
    Atomics.add(this.#words, WAITERS, 1)
    try {
      for (;;) {
        const signal = Atomics.load(this.#words, SIGNAL)
        if (this.hasPassed(epoch)) return
        await Atomics.waitAsync(this.#words, SIGNAL, signal, LOOK_AGAIN_MS).value
      }
    } finally {
      Atomics.sub(this.#words, WAITERS, 1)
    }
  }

  /** Makes the calling thread a reader, until it releases the slot. */
  claim(): ReaderSlot {
    for (let reader = 0; reader < READERS_MAX; reader += 1) {
      const word = readerWord(reader) + CLAIMED
      if (Atomics.compareExchange(this.#words, word, 0, 1) === 0) {
        return new ReaderSlot(this.#words, reader)
      }
    }
    invariant(false, `more than ${READERS_MAX} readers`)
  }
}

/** One reader. Used by its own thread only. */
export class ReaderSlot {
  readonly number: number
  readonly #words: Int32Array<SharedArrayBuffer>
  readonly #word: number
  #active = false

  constructor(words: Int32Array<SharedArrayBuffer>, number: number) {
    this.#words = words
    this.#word = readerWord(number)
    this.number = number
  }

  /** Call before each look at the index; what is found stays as it is until `leave`. */
  enter(): void {
    if (!this.#active) this.#announce()
  }

  /** Call when nothing that was found is held any longer. */
  leave(): void {
    if (!this.#active) return
    this.#active = false
    Atomics.store(this.#words, this.#word + ACTIVE, IDLE)
    if (Atomics.load(this.#words, WAITERS) === 0) return
    Atomics.add(this.#words, SIGNAL, 1)
    Atomics.notify(this.#words, SIGNAL)
  }

  release(): void {
    this.leave()
    Atomics.store(this.#words, this.#word + CLAIMED, 0)
  }

  #announce(): void {
    this.#active = true
    Atomics.store(this.#words, this.#word + ACTIVE, Atomics.load(this.#words, EPOCH))
    // An atomic load keeps the plain loads that follow from overtaking the store.
    Atomics.load(this.#words, EPOCH)
  }
}

function readerWord(reader: number): number {
  return FIRST_READER + reader * READER_WORDS
}
