/**
 * A link of a certain bandwidth and round trip, a server that sends over it as ours does, and an agent
 * that keeps within a window: in simulated time, without a socket. The server keeps up to 512 KiB in
 * its socket; what is in there no demand read overtakes.
 */
import { PathLoad, type Sent } from '#agent/fetch/path-load.ts'
import type { PathWindow } from '#agent/fetch/path-window.ts'
import { KiB } from '#shared/units.ts'

const SOCKET_BYTES = 512 * KiB

export interface LinkOptions {
  readonly mbitPerSecond: number | ((atMs: number) => number)
  readonly roundTripMs: number | ((atMs: number) => number)
  readonly objectBytes: number
  readonly forMs: number
  readonly demandEveryMs: number
}

export interface LinkResult {
  /** Of each demand read, in milliseconds. */
  readonly demandMs: number[]
  /** Bytes that arrived between two times. */
  bytesBetween(fromMs: number, toMs: number): number
  readonly window: PathWindow
}

interface Answer {
  readonly bytes: number
  readonly askedAtMs: number
  /** Absent for a demand read. */
  readonly sent?: Sent
}

export function simulateLink(options: LinkOptions): LinkResult {
  return new Simulation(options).run()
}

class Simulation {
  readonly #options: LinkOptions
  readonly #load = new PathLoad()
  readonly #events: { readonly atMs: number; readonly run: () => void }[] = []
  readonly #bulk: Answer[] = []
  readonly #demands: Answer[] = []
  readonly #demandMs: number[] = []
  readonly #arrivals: { readonly atMs: number; readonly bytes: number }[] = []
  #nowMs = 0
  #linkFreeAtMs = 0
  #socketBytes = 0

  constructor(options: LinkOptions) {
    this.#options = options
  }

  run(): LinkResult {
    const { forMs, demandEveryMs } = this.#options
    for (let atMs = demandEveryMs; atMs < forMs; atMs += demandEveryMs) {
      this.#at(atMs, () => this.#demand())
    }
    this.#grant()
    while (this.#events.length > 0 && this.#nowMs < forMs) {
      const event = this.#events.shift()
      if (event === undefined) break
      this.#nowMs = event.atMs
      event.run()
    }
    const arrivals = this.#arrivals
    return {
      demandMs: this.#demandMs,
      window: this.#load.window,
      bytesBetween: (fromMs, toMs) =>
        arrivals
          .filter(({ atMs }) => atMs >= fromMs && atMs < toMs)
          .reduce((sum, { bytes }) => sum + bytes, 0),
    }
  }

  #grant(): void {
    const { objectBytes } = this.#options
    const granted: Answer[] = []
    while (this.#load.hasRoom(objectBytes, this.#nowMs)) {
      const sent = this.#load.send(objectBytes, this.#nowMs)
      granted.push({ bytes: objectBytes, askedAtMs: this.#nowMs, sent })
    }
    this.#at(this.#nowMs + this.#oneWayMs(), () => {
      this.#bulk.push(...granted)
      this.#send()
    })
  }

  #demand(): void {
    const { objectBytes } = this.#options
    const asked = { bytes: objectBytes, askedAtMs: this.#nowMs }
    this.#at(this.#nowMs + this.#oneWayMs(), () => {
      this.#demands.push(asked)
      this.#send()
    })
  }

  /** The server fills its socket, demand first. */
  #send(): void {
    for (;;) {
      const next = this.#demands[0] ?? this.#bulk[0]
      if (next === undefined || this.#socketBytes + next.bytes > SOCKET_BYTES) return
      ;(next.sent === undefined ? this.#demands : this.#bulk).shift()
      this.#socketBytes += next.bytes
      const beginMs = Math.max(this.#nowMs, this.#linkFreeAtMs)
      this.#linkFreeAtMs = beginMs + next.bytes / this.#bytesPerMs(beginMs)
      this.#at(this.#linkFreeAtMs, () => {
        this.#socketBytes -= next.bytes
        this.#at(this.#nowMs + this.#oneWayMs(), () => this.#arrive(next))
        this.#send()
      })
    }
  }

  #arrive({ bytes, askedAtMs, sent }: Answer): void {
    this.#arrivals.push({ atMs: this.#nowMs, bytes })
    if (sent === undefined) {
      this.#demandMs.push(this.#nowMs - askedAtMs)
      this.#load.window.demandArrived(askedAtMs, this.#nowMs)
      return
    }
    this.#load.arrived(sent, bytes, this.#nowMs)
    this.#grant()
  }

  #at(atMs: number, run: () => void): void {
    let index = this.#events.length
    while (index > 0 && (this.#events[index - 1]?.atMs ?? 0) > atMs) index -= 1
    this.#events.splice(index, 0, { atMs, run })
  }

  #bytesPerMs(atMs: number): number {
    const { mbitPerSecond } = this.#options
    return ((typeof mbitPerSecond === 'number' ? mbitPerSecond : mbitPerSecond(atMs)) * 1e6) / 8000
  }

  #oneWayMs(): number {
    const { roundTripMs } = this.#options
    return (typeof roundTripMs === 'number' ? roundTripMs : roundTripMs(this.#nowMs)) / 2
  }
}
