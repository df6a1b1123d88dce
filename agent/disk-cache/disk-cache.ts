/**
 * The cache on the client's own disk as the fetcher sees it: objects by the hash of their content, as
 * they came over the wire. It may lose anything at any time and says so by not having it; what it
 * gives is unverified, and whoever finds it wrong says `forget`.
 */
import type { ChunkEncoding } from '#shared/wire/frame.ts'

/** A chunk or a node as it is stored and sent. */
export interface CachedObject {
  readonly encoding: ChunkEncoding
  readonly rawBytes: number
  readonly payload: Uint8Array
}

export interface DiskCacheStats {
  readonly state: 'ready' | 'failed'
  readonly usedBytes: number
  readonly capacityBytes: number
  readonly writeBudgetLeftBytes: number
  /** What is wrong, as a sentence; empty when nothing is. */
  readonly problem: string
}

export interface DiskCache {
  /** Costs no I/O. */
  has(hash: Uint8Array): boolean
  /**
   * Reads objects, in one piece where they lie together, and calls `onObject` once for each hash, in
   * any order; with undefined where it is not here or cannot be read. `payload` is valid during the
   * call only. Never rejects: a dying disk is one that has nothing.
   */
  read(
    hashes: readonly Uint8Array[],
    onObject: (index: number, object: CachedObject | undefined) => void,
  ): Promise<void>
  /**
   * Copies and keeps an object, when room, write budget and the disk permit. Never waits. Returns
   * whether it is here now.
   */
  keep(hash: Uint8Array, object: CachedObject): boolean
  /** The content was not that of the hash. */
  forget(hash: Uint8Array): void
  /** From now on nothing is given up for something new that was asked for or kept since. */
  holdFromNowOn(): void
  /**
   * What becomes of `keep`, as far as can be told: later is when what is in memory is written, full
   * when all there is is held, budget when today's is spent.
   */
  readonly taking: 'now' | 'later' | 'full' | 'budget' | 'never'
  /** Grows when something that was here no longer is. */
  readonly losses: number
  stats(): DiskCacheStats
  /** Writes what is kept in memory. */
  close(): Promise<void>
}
