/**
 * How many bytes may be on their way that nobody waits for (pushes, prefetch, hydration), so that
 * the path is full and a demand read still finds it almost empty. Pure: no clock of its own.
 *
 * An object's *delay* is from being asked for (or granted) to its arrival. With the window always
 * full it is the round trip or, when the window is larger than the path, window ÷ bandwidth. So the
 * window follows the delay: the least one seen plus 25 ms are the target. It doubles with each round
 * trip until the target is first exceeded, then is moved towards it in small steps; a delay far
 * beyond it, as when the bandwidth breaks down, cuts it at once.
 */
import { KiB, MiB } from '#shared/units.ts'

/** What bulk data may add to the round trip of a demand read. A frame of film has 40 ms. */
export const QUEUE_TARGET_MS = 25
/** Less does not keep any path busy: one chunk of the longest kind. */
export const WINDOW_BYTES_MIN: number = 128 * KiB
/** 1 Gbit/s at 100 ms; more is not to be had of one connection. */
export const WINDOW_BYTES_MAX: number = 16 * MiB
/** Before anything is known of the path: what a connection sends in its first round trips. */
export const WINDOW_BYTES_AT_FIRST: number = 256 * KiB

/** Part of the deviation that is corrected per round trip: half, since what it does shows one later. */
const GAIN = 0.5
/** A cut by more may be due to a moment's pause of the server; it takes three round trips to mend. */
const CUT_SHARE_MIN = 0.25
/** A window that is used less says nothing about the path. */
const FULL_SHARE = 0.5
/**
 * The least delay is looked for anew after this: the path may have become longer. For that, nothing
 * is asked for until all has come: what is measured then has no queue before it.
 */
const LEAST_VALID_MS = 30_000
/** What has not come by then may never; then it is looked for another time. */
const PROBE_MS_MAX = 1_000

/** When an object was asked for, and how many bytes were on their way before it. */
export interface Asked {
  readonly atMs: number
  readonly aheadBytes: number
}

export class PathWindow {
  #bytes = WINDOW_BYTES_AT_FIRST
  #leastMs = Number.POSITIVE_INFINITY
  #leastAtMs = 0
  #usualMs = 0
  /** Doubling until the target is first exceeded. */
  #isStarting = true
  /** Delays of what was sent before the last cut say nothing new. */
  #cutAtMs = Number.NEGATIVE_INFINITY
  #probeBeganAtMs: number | undefined
  readonly #leastValidMs: number

  /** `leastValidMs` is only given by tests. */
  constructor(leastValidMs: number = LEAST_VALID_MS) {
    this.#leastValidMs = leastValidMs
  }

  /** How large the window is, apart from probing. */
  get bytes(): number {
    return this.#bytes
  }

  /** Bytes that may be on their way. One object may always be, where nothing else is. */
  bytesAt(nowMs: number): number {
    const isProbing =
      this.#probeBeganAtMs !== undefined && nowMs - this.#probeBeganAtMs < PROBE_MS_MAX
    return isProbing ? 0 : this.#bytes
  }

  /** The shortest delay seen on this path: its round trip; 0 before anything came. */
  get leastMs(): number {
    return Number.isFinite(this.#leastMs) ? this.#leastMs : 0
  }

  /** How long an object that is asked for now will take, going by the last ones. */
  get usualMs(): number {
    return this.#usualMs
  }

  /** Another connection: nothing is known. */
  reset(): void {
    this.#bytes = WINDOW_BYTES_AT_FIRST
    this.#leastMs = Number.POSITIVE_INFINITY
    this.#usualMs = 0
    this.#isStarting = true
    this.#cutAtMs = Number.NEGATIVE_INFINITY
    this.#probeBeganAtMs = undefined
  }

  /** A demand read was answered: it tells how short the path is, never how much it takes. */
  demandArrived(askedAtMs: number, nowMs: number): void {
    this.#noteLeast(nowMs - askedAtMs, nowMs)
  }

  /** An object came that the server sent by itself, so that nobody knows when. */
  arrivedUnasked(bytes: number): void {
    if (this.#isStarting) this.#set(this.#bytes + bytes)
  }

  /** An object of so many bytes came. */
  arrived(bytes: number, { atMs, aheadBytes }: Asked, nowMs: number): void {
    const delayMs = nowMs - atMs
    this.#probe(aheadBytes === 0, delayMs, nowMs)
    this.#noteLeast(delayMs, nowMs)
    this.#usualMs = this.#usualMs === 0 ? delayMs : 0.8 * this.#usualMs + 0.2 * delayMs
    const targetMs = this.#leastMs + QUEUE_TARGET_MS
    if (delayMs > targetMs + QUEUE_TARGET_MS) this.#cut(atMs, nowMs, targetMs / delayMs)
    else this.#move(bytes, delayMs, targetMs, aheadBytes + bytes)
  }

  /** Ends a probe by what came alone, or because all does not come; begins one when it is time. */
  #probe(isAlone: boolean, delayMs: number, nowMs: number): void {
    const beganAtMs = this.#probeBeganAtMs
    if (beganAtMs === undefined) {
      if (nowMs - this.#leastAtMs > this.#leastValidMs) this.#probeBeganAtMs = nowMs
      return
    }
    const isOver = nowMs - beganAtMs >= PROBE_MS_MAX
    if (!isAlone && !isOver) return
    this.#probeBeganAtMs = undefined
    this.#leastAtMs = nowMs
    if (isAlone) this.#leastMs = delayMs
  }

  #noteLeast(delayMs: number, nowMs: number): void {
    if (delayMs > this.#leastMs) return
    this.#leastMs = delayMs
    this.#leastAtMs = nowMs
  }

  #cut(askedAtMs: number, nowMs: number, share: number): void {
    this.#isStarting = false
    if (askedAtMs < this.#cutAtMs) return
    this.#cutAtMs = nowMs
    this.#set(this.#bytes * Math.max(CUT_SHARE_MIN, share))
  }

  #move(bytes: number, delayMs: number, targetMs: number, outstandingBytes: number): void {
    const deviation = Math.max(-1, (targetMs - delayMs) / QUEUE_TARGET_MS)
    if (deviation > 0 && outstandingBytes < this.#bytes * FULL_SHARE) return
    if (this.#isStarting && deviation > 0) return this.#set(this.#bytes + bytes)
    this.#isStarting = false
    // Per round trip: the bytes that come in GAIN * deviation * 25 ms.
    this.#set(this.#bytes + (bytes * GAIN * deviation * QUEUE_TARGET_MS) / Math.max(delayMs, 1))
  }

  #set(bytes: number): void {
    this.#bytes = Math.min(WINDOW_BYTES_MAX, Math.max(WINDOW_BYTES_MIN, bytes))
  }
}
