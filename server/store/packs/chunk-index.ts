/**
 * Where each stored chunk lies, by its hash: what imports ask whether a chunk is new. In memory only
 * while imports run. A hash table with open addressing over columns of numbers.
 *
 * Memory per chunk: 12 bytes in the columns (48 bits of the hash, pack, offset; up to an eighth more
 * right after they grew), and 4 bytes per slot with 42 to 85 % of the slots in use: 17 to 23 bytes.
 * 2.7 million chunks, 100 GB of vDisks, are 45 to 62 MB. What is found is a guess, since only a part of
 * the hash was compared: whoever uses it looks at the chunk. One lookup in 100 million is wrong at that
 * size, and costs a chunk that is stored twice.
 */

/** Where a chunk probably is. */
export interface FoundChunk<Pack> {
  readonly pack: Pack
  readonly offset: number
}

const LOAD_MAX = 0.85
const GROWTH = 1.125
const CHUNKS_MIN = 1024
/** Packs are numbered by 16 bits. What lies in more than these is not shared: that is 16 TiB. */
const PACKS_MAX = 0xffff
/** Pack of an entry that has been dropped. */
const NO_PACK = 0xffff

export class ChunkIndex<Pack> {
  readonly #packs: Pack[] = []
  readonly #packNumbers = new Map<Pack, number>()
  #count = 0
  /** First word of the hash, which chooses the slot, and half of the second. */
  #words: Uint32Array<ArrayBuffer>
  #tags: Uint16Array<ArrayBuffer>
  #entryPacks: Uint16Array<ArrayBuffer>
  #offsets: Uint32Array<ArrayBuffer>
  /** Number of an entry plus one; 0 when free. */
  #slots: Uint32Array<ArrayBuffer>

  /** `expected`: chunks there is room for at first. */
  constructor(expected = 0) {
    const capacity = Math.max(CHUNKS_MIN, Math.ceil(expected * GROWTH))
    this.#words = new Uint32Array(capacity)
    this.#tags = new Uint16Array(capacity)
    this.#entryPacks = new Uint16Array(capacity)
    this.#offsets = new Uint32Array(capacity)
    this.#slots = new Uint32Array(2 ** Math.ceil(Math.log2(capacity / LOAD_MAX)))
  }

  get count(): number {
    return this.#count
  }

  get memoryBytes(): number {
    const columns = [this.#words, this.#tags, this.#entryPacks, this.#offsets, this.#slots]
    return columns.reduce((sum, { byteLength }) => sum + byteLength, 0)
  }

  /** `first` and `second` are the hash's first two words of 32 bits. */
  add(first: number, second: number, { pack, offset }: FoundChunk<Pack>): void {
    const number = this.#numberOf(pack)
    if (number === undefined) return
    if (this.#count === this.#words.length) this.#growColumns()
    if (this.#count + 1 > this.#slots.length * LOAD_MAX) this.#growSlots()
    const entry = this.#count
    this.#count += 1
    this.#words[entry] = first
    this.#tags[entry] = second
    this.#entryPacks[entry] = number
    this.#offsets[entry] = offset
    this.#place(entry)
  }

  /** Chunks in packs that are not `isUsable` are passed over. */
  find(
    first: number,
    second: number,
    isUsable: (pack: Pack) => boolean,
  ): FoundChunk<Pack> | undefined {
    for (const entry of this.#entriesOf(first, second)) {
      const pack = this.#packs[this.#entryPacks[entry] ?? NO_PACK]
      if (pack !== undefined && isUsable(pack)) return { pack, offset: this.#offsets[entry] ?? 0 }
    }
    return undefined
  }

  /** Forgets a chunk that turned out to be damaged. */
  drop(first: number, second: number, { pack, offset }: FoundChunk<Pack>): void {
    const number = this.#packNumbers.get(pack)
    for (const entry of this.#entriesOf(first, second)) {
      if (this.#entryPacks[entry] !== number || this.#offsets[entry] !== offset) continue
      this.#entryPacks[entry] = NO_PACK
      return
    }
  }

  *#entriesOf(first: number, second: number): Generator<number> {
    const mask = this.#slots.length - 1
    for (let slot = first & mask; ; slot = (slot + 1) & mask) {
      const entry = (this.#slots[slot] ?? 0) - 1
      if (entry < 0) return
      if (this.#words[entry] === first && this.#tags[entry] === (second & 0xffff)) yield entry
    }
  }

  #place(entry: number): void {
    const mask = this.#slots.length - 1
    let slot = (this.#words[entry] ?? 0) & mask
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask
    this.#slots[slot] = entry + 1
  }

  #numberOf(pack: Pack): number | undefined {
    const known = this.#packNumbers.get(pack)
    if (known !== undefined || this.#packs.length === PACKS_MAX) return known
    this.#packNumbers.set(pack, this.#packs.length)
    return this.#packs.push(pack) - 1
  }

  #growColumns(): void {
    const capacity = Math.ceil(this.#words.length * GROWTH)
    this.#words = grown(this.#words, new Uint32Array(capacity))
    this.#tags = grown(this.#tags, new Uint16Array(capacity))
    this.#entryPacks = grown(this.#entryPacks, new Uint16Array(capacity))
    this.#offsets = grown(this.#offsets, new Uint32Array(capacity))
  }

  #growSlots(): void {
    this.#slots = new Uint32Array(this.#slots.length * 2)
    for (let entry = 0; entry < this.#count; entry += 1) this.#place(entry)
  }
}

function grown<T extends Uint32Array | Uint16Array>(column: T, larger: T): T {
  larger.set(column)
  return larger
}
