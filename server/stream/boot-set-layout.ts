/**
 * How a boot set is laid out: the objects of a boot list as websocket messages behind one another, in
 * pieces of at most a slab. Follows from the list alone, so that any run of entries is a run of bytes,
 * which is pushed as it is.
 */
import { invariant } from '#shared/invariant.ts'
import { type BootListEntry, encodeBootList } from '#shared/wire/frame.ts'
import { messageBytes } from './object-message.ts'
import { SLAB_BYTES } from './slab-pool.ts'

export class BootSetLayout {
  readonly entries: readonly BootListEntry[]
  /** The list as it is sent. */
  readonly listFrame: Uint8Array
  /** Where each entry's message begins, counted from the first; at the end where the last ends. */
  readonly #starts: Float64Array
  /** First entry of each piece; at the end the number of entries. */
  readonly #pieceFirsts: readonly number[]
  readonly #pieceOf: Uint16Array
  readonly #indexByName: ReadonlyMap<number, number>

  constructor(entries: readonly BootListEntry[]) {
    this.entries = entries
    this.listFrame = encodeBootList(entries)
    this.#starts = new Float64Array(entries.length + 1)
    this.#pieceOf = new Uint16Array(entries.length)
    const firsts: number[] = []
    let pieceStart = 0
    for (const [index, { storedBytes }] of entries.entries()) {
      const start = this.#starts[index] ?? 0
      const end = start + messageBytes(storedBytes)
      if (firsts.length === 0 || end - pieceStart > SLAB_BYTES) {
        firsts.push(index)
        pieceStart = start
      }
      this.#pieceOf[index] = firsts.length - 1
      this.#starts[index + 1] = end
    }
    this.#pieceFirsts = [...firsts, entries.length]
    this.#indexByName = new Map(entries.map((entry, index) => [nameKey(entry), index]))
  }

  get pieceCount(): number {
    return this.#pieceFirsts.length - 1
  }

  get bytes(): number {
    return this.#starts[this.entries.length] ?? 0
  }

  /** Index of an object in the list, -1 when it is not in it. */
  indexOf(level: number, position: number): number {
    return this.#indexByName.get(nameKey({ level, position })) ?? -1
  }

  pieceOf(entry: number): number {
    return this.#pieceOf[entry] ?? 0
  }

  /** Entries `first` to before `end`, and where their bytes begin. */
  piece(index: number): PieceRange {
    const first = this.#pieceFirsts[index]
    const end = this.#pieceFirsts[index + 1]
    invariant(first !== undefined && end !== undefined, `piece ${index} of ${this.pieceCount}`)
    const offsetBytes = this.startOf(first)
    return { first, end, offsetBytes, lengthBytes: this.startOf(end) - offsetBytes }
  }

  /** Where the message of an entry begins; for the number of entries, where the last ends. */
  startOf(entry: number): number {
    return this.#starts[entry] ?? 0
  }
}

export interface PieceRange {
  readonly first: number
  readonly end: number
  readonly offsetBytes: number
  readonly lengthBytes: number
}

/** Level and position as one number: positions have 32 bits. */
function nameKey({
  level,
  position,
}: {
  readonly level: number
  readonly position: number
}): number {
  return level * 2 ** 32 + position
}
