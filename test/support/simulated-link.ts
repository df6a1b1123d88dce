/**
 * A link of a certain bandwidth and round trip, a server that sends over it as ours does, and an agent
 * that keeps within a window: in simulated time, without a socket. The server keeps up to 512 KiB in
 * its socket; what is in there no demand read overtakes.
 */
import { PathWindow } from '#agent/fetch/path-window.ts'
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

interface Sent {
  readonly bytes: number
  readonly isDemand: boolean
  readonly askedAtMs: number
  readonly outstandingBytes: number
}

export function simulateLink(options: LinkOptions): LinkResult {
  return new Simulation(options).run()
}

class Simulation {
  readonly #options: LinkOptions
  readonly #window = new PathWindow()
  readonly #events: { readonly atMs: number; readonly run: () => void }[] = []
  readonly #bulk: Sent[] = []
  readonly #demands: Sent[] = []
  readonly #demandMs: number[] = []
  readonly #arrivals: { readonly atMs: number; readonly bytes: number }[] = []
  #nowMs = 0
  #linkFreeAtMs = 0
  #socketBytes = 0
  #outstandingBytes = 0

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
      window: this.#window,
      bytesBetween: (fromMs, toMs) =>
        arrivals
          .filter(({ atMs }) => atMs >= fromMs && atMs < toMs)
          .reduce((sum, { bytes }) => sum + bytes, 0),
    }
  }

  #grant(): void {
    const { objectBytes } = this.#options
    const granted: Sent[] = []
    for (;;) {
      const hasRoom =
        this.#outstandingBytes === 0 || this.#outstandingBytes + objectBytes <= this.#window.bytes
      if (!hasRoom) break
      this.#outstandingBytes += objectBytes
      const outstandingBytes = this.#outstandingBytes
      granted.push({
        bytes: objectBytes,
        isDemand: false,
        askedAtMs: this.#nowMs,
        outstandingBytes,
      })
    }
    this.#at(this.#nowMs + this.#oneWayMs(), () => {
      this.#bulk.push(...granted)
      this.#send()
    })
  }

  #demand(): void {
    const { objectBytes } = this.#options
    const asked = {
      bytes: objectBytes,
      isDemand: true,
      askedAtMs: this.#nowMs,
      outstandingBytes: 0,
    }
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
      ;(next.isDemand ? this.#demands : this.#bulk).shift()
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

  #arrive({ bytes, isDemand, askedAtMs, outstandingBytes }: Sent): void {
    this.#arrivals.push({ atMs: this.#nowMs, bytes })
    if (isDemand) {
      this.#demandMs.push(this.#nowMs - askedAtMs)
      this.#window.demandArrived(askedAtMs, this.#nowMs)
      return
    }
    this.#outstandingBytes -= bytes
    this.#window.arrived(bytes, askedAtMs, this.#nowMs, outstandingBytes)
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
