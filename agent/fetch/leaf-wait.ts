/** Who waits for a leaf of the manifest, to know what the blocks of its span are. */
import { PRIORITY, type Priority } from '#shared/wire/frame.ts'

export interface LeafWish {
  readonly want: Priority
  /** A block that somebody waits for: its chunk may be asked for together with the leaf. */
  readonly block?: number
  onLeaf(): void
  /** The vDisk is closed: it never comes. */
  onClosed(error: Error): void
}

export class LeafWait {
  /** Number of the leaf. */
  readonly position: number
  readonly #wishes: LeafWish[] = []
  /** Wanted for what is prefetched, where nobody waits to be told. */
  isPrefetched = false

  constructor(position: number) {
    this.position = position
  }

  get want(): Priority {
    const first = this.#wishes[0]?.want ?? PRIORITY.hydration
    return this.isPrefetched && first > PRIORITY.prefetch ? PRIORITY.prefetch : first
  }

  /** The most urgent first, and those of one priority in the order they came. */
  get wishes(): readonly LeafWish[] {
    return this.#wishes
  }

  add(wish: LeafWish): void {
    const at = this.#wishes.findIndex(({ want }) => want > wish.want)
    this.#wishes.splice(at < 0 ? this.#wishes.length : at, 0, wish)
  }
}
