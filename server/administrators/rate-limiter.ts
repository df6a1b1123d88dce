/**
 * How often each of many may do something: a bucket of tokens per key, which fills again steadily, so that
 * bursts pass and floods do not. Its memory is bounded: the key that was not seen for longest is forgotten.
 */
export interface RateLimit {
  /** How often at once. */
  readonly burst: number
  readonly perSecond: number
  /** Keys remembered. */
  readonly keysMax: number
}

interface Bucket {
  left: number
  atMs: number
}

export class RateLimiter {
  readonly #limit: RateLimit
  readonly #now: () => number
  /** The one seen last is last. */
  readonly #buckets = new Map<string, Bucket>()

  constructor(limit: RateLimit, now: () => number = () => performance.now()) {
    this.#limit = limit
    this.#now = now
  }

  get keyCount(): number {
    return this.#buckets.size
  }

  /** Whether it may be done once more; counted if so. */
  take(key: string): boolean {
    const { burst, perSecond, keysMax } = this.#limit
    const nowMs = this.#now()
    const before = this.#buckets.get(key) ?? { left: burst, atMs: nowMs }
    const left = Math.min(burst, before.left + ((nowMs - before.atMs) / 1000) * perSecond)
    const isAllowed = left >= 1
    this.#buckets.delete(key)
    this.#buckets.set(key, { left: isAllowed ? left - 1 : left, atMs: nowMs })
    if (this.#buckets.size > keysMax) this.#forgetOldest()
    return isAllowed
  }

  #forgetOldest(): void {
    const oldest = this.#buckets.keys().next()
    if (oldest.done !== true) this.#buckets.delete(oldest.value)
  }
}
