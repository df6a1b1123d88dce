/**
 * How much may be written, so that cheap flash lives as long as the machine: so many bytes a day, and
 * what was not used is kept up to a bound. Days are counted while the cache is open: a clock that was
 * set wrong gives nothing away, and a machine that is off earns nothing.
 */

/** Enough for 12 years of the 1,000 times that the poorest flash can be written. */
const DAILY_SHARE = 0.2
const DAY_MS = 86_400_000

export interface BudgetRules {
  readonly bytesPerDay: number
  /** Most that is kept of what was not used. */
  readonly maxBytes: number
}

/**
 * Once all of it, so that a first filling is not held up, and a fifth of it a day. An administrator's
 * number is exactly that.
 */
export function budgetRules(capacityBytes: number, bytesPerDay?: number): BudgetRules {
  if (bytesPerDay !== undefined) return { bytesPerDay, maxBytes: bytesPerDay }
  return { bytesPerDay: Math.floor(capacityBytes * DAILY_SHARE), maxBytes: capacityBytes }
}

export class WriteBudget {
  readonly #rules: BudgetRules
  readonly #now: () => number
  #leftBytes: number
  #sinceMs: number

  /** `now` never goes back; milliseconds. */
  constructor(rules: BudgetRules, leftBytes: number, now: () => number = () => performance.now()) {
    this.#rules = rules
    this.#now = now
    this.#leftBytes = Math.min(leftBytes, rules.maxBytes)
    this.#sinceMs = now()
  }

  get leftBytes(): number {
    const { bytesPerDay, maxBytes } = this.#rules
    const nowMs = this.#now()
    const earned = (bytesPerDay * (nowMs - this.#sinceMs)) / DAY_MS
    this.#leftBytes = Math.min(this.#leftBytes + earned, maxBytes)
    this.#sinceMs = nowMs
    return Math.max(0, Math.floor(this.#leftBytes))
  }

  /** Takes what is going to be written, unless there is too little left. */
  take(bytes: number): boolean {
    if (this.leftBytes < bytes) return false
    this.#leftBytes -= bytes
    return true
  }

  /** Takes what has to be written anyway. */
  charge(bytes: number): void {
    this.#leftBytes = Math.max(0, this.leftBytes - bytes)
  }
}
