/** Bytes per second at most, with as much at once as a second gives. Pure: no clock of its own. */
export class RateLimit {
  #bytesPerSecond = 0
  #leftBytes = 0
  #atMs = 0

  /** 0 for no limit. */
  set(bytesPerSecond: number, nowMs: number): void {
    this.#bytesPerSecond = bytesPerSecond
    this.#leftBytes = Math.min(this.#leftBytes, bytesPerSecond)
    this.#atMs = nowMs
  }

  /** Takes bytes that are going to be moved. Returns how long to wait before they are, in milliseconds. */
  take(bytes: number, nowMs: number): number {
    if (this.#bytesPerSecond === 0) return 0
    const earned = ((nowMs - this.#atMs) * this.#bytesPerSecond) / 1000
    this.#leftBytes = Math.min(this.#leftBytes + earned, this.#bytesPerSecond) - bytes
    this.#atMs = nowMs
    return this.#leftBytes >= 0 ? 0 : (-this.#leftBytes * 1000) / this.#bytesPerSecond
  }
}
