/** A cache whose disk is found later, or never: until then it has nothing and keeps nothing. */
import type { CachedObject, DiskCache, DiskCacheStats } from './disk-cache.ts'

const NOTHING: DiskCacheStats = {
  state: 'ready',
  usedBytes: 0,
  capacityBytes: 0,
  writeBudgetLeftBytes: 0,
  problem: '',
}

export class LateDiskCache implements DiskCache {
  #cache: DiskCache | undefined
  #problem = ''
  #isHolding = false
  #isClosed = false

  /** Whether there is a disk. */
  get isThere(): boolean {
    return this.#cache !== undefined
  }

  get taking(): DiskCache['taking'] {
    return this.#cache?.taking ?? 'never'
  }

  get losses(): number {
    return this.#cache?.losses ?? 0
  }

  /** Takes the cache, which belongs to it from now on. */
  async join(cache: DiskCache): Promise<void> {
    if (this.#isClosed) return await cache.close()
    this.#cache = cache
    if (this.#isHolding) cache.holdFromNowOn()
  }

  /** There is a disk for it, and it cannot be used; a sentence. */
  fail(problem: string): void {
    this.#problem = problem
  }

  has(hash: Uint8Array): boolean {
    return this.#cache?.has(hash) ?? false
  }

  async read(
    hashes: readonly Uint8Array[],
    onObject: (index: number, object: CachedObject | undefined) => void,
  ): Promise<void> {
    if (this.#cache !== undefined) return await this.#cache.read(hashes, onObject)
    for (const index of hashes.keys()) onObject(index, undefined)
  }

  keep(hash: Uint8Array, object: CachedObject): boolean {
    return this.#cache?.keep(hash, object) ?? false
  }

  holdFromNowOn(): void {
    this.#isHolding = true
    this.#cache?.holdFromNowOn()
  }

  forget(hash: Uint8Array): void {
    this.#cache?.forget(hash)
  }

  stats(): DiskCacheStats {
    if (this.#cache !== undefined) return this.#cache.stats()
    return this.#problem === '' ? NOTHING : { ...NOTHING, state: 'failed', problem: this.#problem }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#cache?.close()
  }
}
