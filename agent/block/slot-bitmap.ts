/**
 * Which slots of the write cache's data file are taken, a bit each, in shared memory. The lowest
 * free ones are given first, so that the end of the file becomes free and can be cut off. Every call
 * needs the write cache's lock.
 */
import { invariant } from '#shared/invariant.ts'

const WORD_BITS = 32
const FULL_WORD = -1

// Words of the counters.
const TAKEN = 0
/** No word of the bitmap below this one has a free bit. */
const FIRST_FREE_WORD = 1
const LIMIT = 2
const RESERVE = 3
const COUNTER_WORDS = 4

export interface SlotBitmapMemory {
  readonly words: SharedArrayBuffer
  readonly counters: SharedArrayBuffer
}

export interface SlotBitmapOptions {
  /** Slots that may be taken now. */
  readonly limit: number
  /** Slots that may ever be taken; default is `limit`. */
  readonly capacity?: number
  /** Slots that are not given before `openReserve`; default is none. */
  readonly reserve?: number
  /** So many may be taken one by one although they are more than the limit. */
  readonly present: number
}

export function createSlotBitmap({
  limit,
  capacity = limit,
  reserve = 0,
  present,
}: SlotBitmapOptions): SlotBitmapMemory {
  const counters = new SharedArrayBuffer(COUNTER_WORDS * 4)
  const words = new Int32Array(counters)
  words[LIMIT] = limit
  words[RESERVE] = reserve
  const bits = Math.max(limit, capacity, present)
  return { words: new SharedArrayBuffer(Math.ceil(bits / WORD_BITS) * 4), counters }
}

export class SlotBitmap {
  readonly #words: Int32Array<SharedArrayBuffer>
  readonly #counters: Int32Array<SharedArrayBuffer>

  constructor(memory: SlotBitmapMemory) {
    this.#words = new Int32Array(memory.words)
    this.#counters = new Int32Array(memory.counters)
  }

  get taken(): number {
    return this.#counters[TAKEN] ?? 0
  }

  /** Slots that there are, with the reserve. */
  get limit(): number {
    return this.#counters[LIMIT] ?? 0
  }

  /** Slots that may be taken now, those that are with them. */
  get open(): number {
    return Math.max(0, this.limit - (this.#counters[RESERVE] ?? 0))
  }

  /** There is more room; `limit` is not beyond the capacity. */
  raiseLimit(limit: number): void {
    invariant(limit <= this.#words.length * WORD_BITS, `${limit} slots have no bits`)
    this.#counters[LIMIT] = limit
  }

  openReserve(): void {
    this.#counters[RESERVE] = 0
  }

  /** Takes `count` slots, ascending, into `slots`. Returns false and takes none when there are too few. */
  take(slots: Int32Array, count: number): boolean {
    if (this.taken + count > this.open) return false
    let word = this.#counters[FIRST_FREE_WORD] ?? 0
    for (let at = 0; at < count; word += 1) {
      invariant(word < this.#words.length, 'the count of taken slots is wrong')
      at = this.#takeOfWord(word, slots, at, count)
    }
    this.#counters[FIRST_FREE_WORD] = Math.max(0, word - 1)
    this.#counters[TAKEN] = this.taken + count
    return true
  }

  /** Takes one certain slot, when a cache is opened. Returns false when it is taken already. */
  takeThis(slot: number): boolean {
    invariant(slot < this.#words.length * WORD_BITS, `slot ${slot} has no bit`)
    if (this.#isTaken(slot)) return false
    this.#words[slot >>> 5] = (this.#words[slot >>> 5] ?? 0) | (1 << (slot & 31))
    this.#counters[TAKEN] = this.taken + 1
    return true
  }

  free(slot: number): void {
    invariant(this.#isTaken(slot), `slot ${slot} is not taken`)
    const word = slot >>> 5
    this.#words[word] = (this.#words[word] ?? 0) & ~(1 << (slot & 31))
    this.#counters[TAKEN] = this.taken - 1
    if (word < (this.#counters[FIRST_FREE_WORD] ?? 0)) this.#counters[FIRST_FREE_WORD] = word
  }

  /** Returns the number of slots up to the last that is taken, of the first `limit`. */
  end(limit: number): number {
    for (let word = Math.ceil(limit / WORD_BITS) - 1; word >= 0; word -= 1) {
      const bits = this.#words[word] ?? 0
      if (bits !== 0) return (word + 1) * WORD_BITS - Math.clz32(bits)
    }
    return 0
  }

  #takeOfWord(word: number, slots: Int32Array, at: number, count: number): number {
    let bits = this.#words[word] ?? 0
    while (bits !== FULL_WORD && at < count) {
      const bit = 31 - Math.clz32(~bits & -~bits) // the lowest that is free
      const slot = word * WORD_BITS + bit
      bits |= 1 << bit
      slots[at] = slot
      at += 1
    }
    this.#words[word] = bits
    return at
  }

  #isTaken(slot: number): boolean {
    return ((this.#words[slot >>> 5] ?? 0) & (1 << (slot & 31))) !== 0
  }
}
