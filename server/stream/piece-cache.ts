/**
 * Pieces of boot sets in memory, shared by all sessions: machines that boot at the same time are pushed
 * the same bytes. What nobody sends any more gives way, least recently used first, and all of it after
 * a while of quiet.
 */
import { MiB } from '#shared/units.ts'
import { SLAB_BYTES, type Slab } from './slab-pool.ts'

/** Machines that boot together are within some megabytes of each other; a small boot set fits whole. */
const CACHED_BYTES_MAX: number = 64 * MiB

/** Machines switched on by people one after the other find it still there. */
const IDLE_MS = 10_000

/** Part of a boot set as it is sent: websocket messages behind one another. */
export interface Piece {
  readonly slab: Slab
  /** Of the slab. */
  readonly bytes: Uint8Array
}

interface Cached {
  readonly owner: Map<number, Cached>
  readonly index: number
  readonly piece: Piece
  usedAtMs: number
}

export class PieceCache {
  /** Least recently used first. */
  readonly #order = new Set<Cached>()
  readonly #piecesMax: number
  #timer: NodeJS.Timeout | undefined

  constructor(bytesMax: number = CACHED_BYTES_MAX) {
    this.#piecesMax = Math.max(1, Math.floor(bytesMax / SLAB_BYTES))
  }

  get count(): number {
    return this.#order.size
  }

  /** The pieces of one boot set. */
  shelf(): PieceShelf {
    return new PieceShelf(this)
  }

  /** @internal for shelves */
  touch(cached: Cached): void {
    cached.usedAtMs = performance.now()
    this.#order.delete(cached)
    this.#order.add(cached)
  }

  /** @internal for shelves */
  add(cached: Cached): void {
    cached.piece.slab.retain()
    this.touch(cached)
    for (const oldest of this.#order) {
      if (this.#order.size <= this.#piecesMax) break
      this.drop(oldest)
    }
    this.#timer ??= setInterval(() => this.#dropIdle(), IDLE_MS / 2).unref()
  }

  /** @internal for shelves */
  drop(cached: Cached): void {
    if (!this.#order.delete(cached)) return
    cached.owner.delete(cached.index)
    cached.piece.slab.release()
  }

  #dropIdle(): void {
    const idleSinceMs = performance.now() - IDLE_MS
    for (const cached of this.#order) {
      if (cached.usedAtMs > idleSinceMs) break
      this.drop(cached)
    }
    if (this.#order.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

export class PieceShelf {
  readonly #cache: PieceCache
  readonly #pieces = new Map<number, Cached>()

  constructor(cache: PieceCache) {
    this.#cache = cache
  }

  /** Valid until the next piece is put somewhere; retain its slab to keep it. */
  get(index: number): Piece | undefined {
    const cached = this.#pieces.get(index)
    if (cached === undefined) return undefined
    this.#cache.touch(cached)
    return cached.piece
  }

  /** In place of what was there: a piece is read again when some of it could not be read before. */
  put(index: number, piece: Piece): void {
    const before = this.#pieces.get(index)
    if (before !== undefined) this.#cache.drop(before)
    const cached = { owner: this.#pieces, index, piece, usedAtMs: 0 }
    this.#pieces.set(index, cached)
    this.#cache.add(cached)
  }

  clear(): void {
    for (const cached of this.#pieces.values()) this.#cache.drop(cached)
  }
}
