/**
 * The way of requests that the hot device could not answer, in shared memory of one connection:
 *
 *   transmission worker ─ requests ─▸ main thread ─ answers ─▸ reply worker
 *
 * Two rings, each with one writer and one reader. An entry is written, then the tail is moved
 * (atomically, so the entry is seen with it); it is read, then the head is moved. Head and tail count
 * on and wrap around at 32 bits. Who waits sleeps on a word that the other side changes:
 *   transmission worker  on TAKEN, when the ring of requests is full, or for its payload to be taken
 *   main thread          on DOORBELL: requests came, or memory it waits for became free
 *   reply worker         on SIGNAL: answers came, or the channel was closed
 */

/** Requests on their way to the main thread; when the ring is full the transmission worker waits. */
export const REQUESTS_MAX = 256
/** Requests the main thread works on at once; it leaves more in the ring. A kernel queue has 128. */
export const IN_FLIGHT_MAX = 128

// Words of the shared memory, those of different writers on different cache lines.
const LOCK = 0
const CLOSED = 1
const REQUESTS_TAIL = 16
const REQUESTS_HEAD = 32
const TAKEN = 33
const DOORBELL = 48
const MAIN_WAITS = 49
const ANSWERS_TAIL = 64
const SIGNAL = 65
const ANSWERS_HEAD = 80
const REQUESTS = 96
const ENTRY_WORDS = 8
const ANSWERS = REQUESTS + REQUESTS_MAX * ENTRY_WORDS
const WORDS = ANSWERS + IN_FLIGHT_MAX * ENTRY_WORDS

const TWO_TO_32 = 2 ** 32

/** One request of a client, as it came. */
export interface ColdRequest {
  readonly type: number
  readonly flags: number
  readonly cookieHigh: number
  readonly cookieLow: number
  readonly offset: number
  readonly length: number
}

/** What became of it. */
export interface ColdAnswer {
  readonly type: number
  readonly errno: number
  readonly cookieHigh: number
  readonly cookieLow: number
  readonly offset: number
  /** Where a read's data lies in the connection's memory. */
  readonly memoryAt: number
  readonly length: number
}

export function createColdChannel(): SharedArrayBuffer {
  return new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT)
}

/** Each thread makes one of its own over the same memory. */
export class ColdChannel {
  readonly words: Int32Array<SharedArrayBuffer>
  /** Word of the lock on the socket. */
  readonly lockWord: number = LOCK

  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory)
  }

  get closed(): boolean {
    return Atomics.load(this.words, CLOSED) === 1
  }

  /** Wakes every side. Whoever waits finds `closed`. */
  close(): void {
    Atomics.store(this.words, CLOSED, 1)
    this.#ring(DOORBELL)
    this.#ring(SIGNAL)
    this.#ring(TAKEN)
  }

  // The transmission worker's side.

  get requestsFull(): boolean {
    return this.#count(REQUESTS_TAIL, REQUESTS_HEAD) === REQUESTS_MAX
  }

  get requestsEmpty(): boolean {
    return this.#count(REQUESTS_TAIL, REQUESTS_HEAD) === 0
  }

  /** Call only when the ring is not full, and `ringDoorbell` soon. */
  pushRequest(request: ColdRequest): void {
    const { words } = this
    const tail = Atomics.load(words, REQUESTS_TAIL)
    const at = REQUESTS + slot(tail, REQUESTS_MAX)
    words[at] = request.type
    words[at + 1] = request.flags
    words[at + 2] = request.cookieHigh
    words[at + 3] = request.cookieLow
    words[at + 4] = Math.floor(request.offset / TWO_TO_32)
    words[at + 5] = request.offset >>> 0
    words[at + 6] = request.length
    Atomics.store(words, REQUESTS_TAIL, tail + 1)
  }

  ringDoorbell(): void {
    this.#ring(DOORBELL)
  }

  get taken(): number {
    return Atomics.load(this.words, TAKEN)
  }

  /** Sleeps until `taken` is no longer what was seen: requests were taken, or the channel closed. */
  waitForTaken(seen: number): void {
    Atomics.wait(this.words, TAKEN, seen)
  }

  // The main thread's side.

  /** The first request in the ring, which stays there until `takeRequest`. */
  firstRequest(): ColdRequest | undefined {
    const { words } = this
    if (this.requestsEmpty) return undefined
    const at = REQUESTS + slot(Atomics.load(words, REQUESTS_HEAD), REQUESTS_MAX)
    return {
      type: words[at] ?? 0,
      flags: words[at + 1] ?? 0,
      cookieHigh: words[at + 2] ?? 0,
      cookieLow: words[at + 3] ?? 0,
      offset: unsigned(words[at + 4]) * TWO_TO_32 + unsigned(words[at + 5]),
      length: unsigned(words[at + 6]),
    }
  }

  takeRequest(): void {
    Atomics.add(this.words, REQUESTS_HEAD, 1)
    this.#ring(TAKEN)
  }

  /** At most IN_FLIGHT_MAX answers may be unsent. */
  pushAnswer(answer: ColdAnswer): void {
    const { words } = this
    const tail = Atomics.load(words, ANSWERS_TAIL)
    const at = ANSWERS + slot(tail, IN_FLIGHT_MAX)
    words[at] = answer.type
    words[at + 1] = answer.errno
    words[at + 2] = answer.cookieHigh
    words[at + 3] = answer.cookieLow
    words[at + 4] = Math.floor(answer.offset / TWO_TO_32)
    words[at + 5] = answer.offset >>> 0
    words[at + 6] = answer.length
    words[at + 7] = answer.memoryAt
    Atomics.store(words, ANSWERS_TAIL, tail + 1)
    this.#ring(SIGNAL)
  }

  /** Answers sent since the channel was made, modulo 2^32. */
  get answersSent(): number {
    return Atomics.load(this.words, ANSWERS_HEAD)
  }

  get doorbell(): number {
    return Atomics.load(this.words, DOORBELL)
  }

  /** Waits until the doorbell is no longer `seen`, without keeping the process alive. */
  async waitForDoorbell(seen: number): Promise<void> {
    await Atomics.waitAsync(this.words, DOORBELL, seen).value
  }

  /** Whether the reply worker shall ring when it sent something. */
  setMainWaits(waits: boolean): void {
    Atomics.store(this.words, MAIN_WAITS, waits ? 1 : 0)
  }

  // The reply worker's side.

  get signal(): number {
    return Atomics.load(this.words, SIGNAL)
  }

  waitForSignal(seen: number): void {
    Atomics.wait(this.words, SIGNAL, seen)
  }

  get answersWaiting(): number {
    return this.#count(ANSWERS_TAIL, ANSWERS_HEAD)
  }

  /** The answer at that place in the ring, counted from the first unsent one. */
  answer(index: number): ColdAnswer {
    const { words } = this
    const at = ANSWERS + slot(Atomics.load(words, ANSWERS_HEAD) + index, IN_FLIGHT_MAX)
    return {
      type: words[at] ?? 0,
      errno: words[at + 1] ?? 0,
      cookieHigh: words[at + 2] ?? 0,
      cookieLow: words[at + 3] ?? 0,
      offset: unsigned(words[at + 4]) * TWO_TO_32 + unsigned(words[at + 5]),
      length: unsigned(words[at + 6]),
      memoryAt: unsigned(words[at + 7]),
    }
  }

  /** Their memory may be used again. */
  setSent(count: number): void {
    Atomics.add(this.words, ANSWERS_HEAD, count)
    if (Atomics.load(this.words, MAIN_WAITS) === 1) this.#ring(DOORBELL)
  }

  #ring(word: number): void {
    Atomics.add(this.words, word, 1)
    Atomics.notify(this.words, word)
  }

  #count(tail: number, head: number): number {
    return (Atomics.load(this.words, tail) - Atomics.load(this.words, head)) | 0
  }
}

/** The first word of an entry in its ring; sizes are powers of two, so that it survives the wrap. */
function slot(count: number, size: number): number {
  return (count & (size - 1)) * ENTRY_WORDS
}

function unsigned(word: number | undefined): number {
  return (word ?? 0) >>> 0
}
