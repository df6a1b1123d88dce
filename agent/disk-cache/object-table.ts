/**
 * Which objects a cache has, in memory: 12 bytes for each, in tables with linear probing that are
 * filled to between 68 and 85 %. Of a hash it keeps 51 bits and 8 more in where it stands; two objects
 * that agree in these are met once in 10^11 lookups among a million, and what is read says its whole
 * hash.
 *
 *     word 0   bits 0–31 of the hash, which also say where probing begins
 *     word 1   location + 1; 0 when the slot is free
 *     word 2   bit 31 held, bits 12–30 bits of the hash, bits 0–11 length in units
 */

/** Where an object lies: `location` in units from the beginning of the data, and its length. */
export interface Place {
  readonly location: number
  readonly units: number
}

/** Tables that grow one at a time: each growth is a 256th of the pause one table would make. */
const SHARDS = 256
const SLOTS_FIRST = 16
const FILL_MAX = 0.85
const GROWTH = 1.25
/** Shards differ by a few percent. */
const RESERVE_FACTOR = 1.1
const WORDS = 3

const HELD_BIT = 0x8000_0000
const HASH_MASK = 0x7ffff
const UNITS_MASK = 0xfff
const UNITS_BITS = 12

interface Shard {
  words: Uint32Array
  slots: number
  count: number
}

export class ObjectTable {
  readonly #shards: Shard[] = Array.from({ length: SHARDS }, () => newShard(SLOTS_FIRST))
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Memory it takes. */
  get bytes(): number {
    return this.#shards.reduce((sum, { words }) => sum + words.byteLength, 0)
  }

  /** Makes room for so many at once, when there is none yet. */
  reserve(objects: number): void {
    const slots = Math.ceil((objects / SHARDS / FILL_MAX) * RESERVE_FACTOR)
    for (const shard of this.#shards) {
      if (shard.count === 0 && slots > shard.slots) Object.assign(shard, newShard(slots))
    }
  }

  get(hash: Uint8Array): Place | undefined {
    const shard = this.#shardOf(hash)
    const at = seek(shard, hash)
    return placeAt(shard, at)
  }

  /** Whether there is one, and it was not held so far. */
  hold(hash: Uint8Array): boolean {
    const shard = this.#shardOf(hash)
    const { words } = shard
    const at = seek(shard, hash)
    if (words[at + 1] === 0) return false
    const word = words[at + 2] ?? 0
    if ((word & HELD_BIT) !== 0) return false
    words[at + 2] = (word | HELD_BIT) >>> 0
    return true
  }

  isHeld(hash: Uint8Array): boolean {
    const shard = this.#shardOf(hash)
    const at = seek(shard, hash)
    return shard.words[at + 1] !== 0 && ((shard.words[at + 2] ?? 0) & HELD_BIT) !== 0
  }

  /**
   * Adds an object, not held, unless there is one of the same hash. Returns whether it did. The hash
   * begins at `from`.
   */
  add(hash: Uint8Array, location: number, units: number, from = 0): boolean {
    const shard = this.#shards[hash[from + 4] ?? 0] as Shard
    const first = word0(hash, from)
    const bits = hashBits(hash, from)
    let at = seekWords(shard, first, bits)
    if (shard.words[at + 1] !== 0) return false
    if (shard.count + 1 > shard.slots * FILL_MAX) {
      grow(shard)
      at = seekWords(shard, first, bits)
    }
    shard.count += 1
    this.#size += 1
    shard.words[at] = first
    shard.words[at + 1] = location + 1
    shard.words[at + 2] = ((bits << UNITS_BITS) | units) >>> 0
    return true
  }

  delete(hash: Uint8Array): void {
    const shard = this.#shardOf(hash)
    const at = seek(shard, hash)
    if (shard.words[at + 1] === 0) return
    removeAt(shard, at)
    this.#size -= 1
  }

  /** Removes what lies in a range of locations, a shard at a time: a caller may pause in between. */
  *deleteRange(from: number, to: number): Generator<void> {
    for (const shard of this.#shards) {
      const before = shard.count
      removeRange(shard, from, to)
      this.#size -= before - shard.count
      yield
    }
  }

  #shardOf(hash: Uint8Array): Shard {
    return this.#shards[hash[4] ?? 0] as Shard
  }
}

function newShard(slots: number): Shard {
  return { words: new Uint32Array(slots * WORDS), slots, count: 0 }
}

function word0(hash: Uint8Array, from: number): number {
  const high = ((hash[from] ?? 0) << 24) | ((hash[from + 1] ?? 0) << 16)
  return (high | ((hash[from + 2] ?? 0) << 8) | (hash[from + 3] ?? 0)) >>> 0
}

function hashBits(hash: Uint8Array, from: number): number {
  const bits = ((hash[from + 5] ?? 0) << 16) | ((hash[from + 6] ?? 0) << 8) | (hash[from + 7] ?? 0)
  return bits & HASH_MASK
}

/** Index of the first word of the slot that has the hash, or of the free one where it would stand. */
function seek(shard: Shard, hash: Uint8Array): number {
  return seekWords(shard, word0(hash, 0), hashBits(hash, 0))
}

function seekWords({ words, slots }: Shard, first: number, bits: number): number {
  let slot = homeOf(first, slots)
  for (;;) {
    const at = slot * WORDS
    if (words[at + 1] === 0) return at
    if (words[at] === first && (((words[at + 2] ?? 0) >>> UNITS_BITS) & HASH_MASK) === bits) {
      return at
    }
    slot = slot + 1 === slots ? 0 : slot + 1
  }
}

function homeOf(first: number, slots: number): number {
  return Math.floor((first * slots) / 2 ** 32)
}

function placeAt({ words }: Shard, at: number): Place | undefined {
  const location = words[at + 1] ?? 0
  return location === 0
    ? undefined
    : { location: location - 1, units: (words[at + 2] ?? 0) & UNITS_MASK }
}

function grow(shard: Shard): void {
  const { words } = shard
  const { words: larger, slots } = newShard(Math.ceil(shard.slots * GROWTH) + 1)
  for (let at = 0; at < words.length; at += WORDS) {
    if (words[at + 1] === 0) continue
    let to = homeOf(words[at] ?? 0, slots) * WORDS
    while (larger[to + 1] !== 0) to = to + WORDS === larger.length ? 0 : to + WORDS
    move(words, at, larger, to)
  }
  shard.words = larger
  shard.slots = slots
}

function removeRange(shard: Shard, from: number, to: number): void {
  for (let at = 0; at < shard.words.length; at += WORDS) {
    // What moves into the hole may have to go as well.
    for (;;) {
      const location = (shard.words[at + 1] ?? 0) - 1
      if (location < from || location >= to) break
      removeAt(shard, at)
    }
  }
}

/** Moves up what probing would no longer find behind the hole (Knuth, vol. 3, 6.4, algorithm R). */
function removeAt(shard: Shard, at: number): void {
  const { words, slots } = shard
  let hole = at / WORDS
  let slot = hole
  for (;;) {
    slot = slot + 1 === slots ? 0 : slot + 1
    if (words[slot * WORDS + 1] === 0) break
    const home = homeOf(words[slot * WORDS] ?? 0, slots)
    const isBehindHole = hole <= slot ? hole < home && home <= slot : hole < home || home <= slot
    if (isBehindHole) continue
    move(words, slot * WORDS, words, hole * WORDS)
    hole = slot
  }
  words.fill(0, hole * WORDS, (hole + 1) * WORDS)
  shard.count -= 1
}

function move(from: Uint32Array, at: number, to: Uint32Array, toAt: number): void {
  to[toAt] = from[at] ?? 0
  to[toAt + 1] = from[at + 1] ?? 0
  to[toAt + 2] = from[at + 2] ?? 0
}
