/** A cache of the client's disk, in memory, that can be damaged, lose all it has, and hang. */
import type { CachedObject, DiskCache, DiskCacheStats } from '#agent/disk-cache/disk-cache.ts'

export class MemoryDiskCache implements DiskCache {
  taking: DiskCache['taking'] = 'now'
  losses = 0
  /** So many are not kept after all, as by a disk that is behind. */
  refusals = 0
  readonly #objects = new Map<string, CachedObject>()
  #isHanging = false
  #hasLostAll = false
  #forgotten = 0
  /** Hashes of each read, in hex. */
  readonly reads: string[][] = []

  get size(): number {
    return this.#objects.size
  }

  get forgotten(): number {
    return this.#forgotten
  }

  has(hash: Uint8Array): boolean {
    return this.#objects.has(nameOf(hash))
  }

  async read(
    hashes: readonly Uint8Array[],
    onObject: (index: number, object: CachedObject | undefined) => void,
  ): Promise<void> {
    this.reads.push(hashes.map(nameOf))
    if (this.#isHanging) return await new Promise(() => undefined)
    await new Promise(setImmediate)
    for (const [index, hash] of hashes.entries()) {
      const object = this.#hasLostAll ? undefined : this.#objects.get(nameOf(hash))
      if (object === undefined) {
        onObject(index, undefined)
        continue
      }
      // In memory that changes right after.
      const payload = Uint8Array.from(object.payload)
      onObject(index, { ...object, payload })
      payload.fill(0xee)
    }
  }

  keep(hash: Uint8Array, { encoding, rawBytes, payload }: CachedObject): boolean {
    if (this.taking !== 'now') return false
    if (this.refusals > 0) {
      this.refusals -= 1
      return false
    }
    this.#objects.set(nameOf(hash), { encoding, rawBytes, payload: Uint8Array.from(payload) })
    return true
  }

  holdFromNowOn(): void {
    // There is room for all.
  }

  forget(hash: Uint8Array): void {
    this.#forgotten += 1
    this.losses += 1
    this.#objects.delete(nameOf(hash))
  }

  stats(): DiskCacheStats {
    const objects = [...this.#objects.values()]
    return {
      state: 'ready',
      usedBytes: objects.reduce((sum, { payload }) => sum + payload.length, 0),
      capacityBytes: Number.MAX_SAFE_INTEGER,
      writeBudgetLeftBytes: Number.MAX_SAFE_INTEGER,
      problem: '',
    }
  }

  async close(): Promise<void> {
    // Nothing is kept.
  }

  /** Changes one byte of every object. */
  damageAll(): void {
    for (const { payload } of this.#objects.values()) {
      const at = payload.length >>> 1
      payload[at] = (payload[at] ?? 0) ^ 0xff
    }
  }

  /** Says it has them and cannot read them. */
  loseAll(): void {
    this.#hasLostAll = true
  }

  hang(): void {
    this.#isHanging = true
  }
}

function nameOf(hash: Uint8Array): string {
  return Buffer.from(hash).toString('hex')
}
