/**
 * What a cache knows of each of its segments: whether it holds anything, how much of that is still
 * named by the object table and held, when it was used last. Decides which is given up next.
 */
import { SEGMENT_UNITS } from './cache-layout.ts'
import type { Place } from './object-table.ts'

/** A segment is worth rewriting for the room in it when at most half of it is held. */
export const MOVED_UNITS_MAX: number = SEGMENT_UNITS / 2

export class SegmentTable {
  readonly count: number
  /** By segment: 0 for one that holds nothing. */
  readonly sequences: Uint32Array
  /** By segment, in the cache's clock. */
  readonly uses: Uint32Array
  /** Units of objects that can be found. */
  readonly #liveUnits: Uint32Array
  readonly #heldUnits: Uint32Array
  /** Those that are being filled, or prepared to be. */
  readonly #busy = new Set<number>()
  #liveUnitsTotal = 0

  constructor(count: number) {
    this.count = count
    this.sequences = new Uint32Array(count)
    this.uses = new Uint32Array(count)
    this.#liveUnits = new Uint32Array(count)
    this.#heldUnits = new Uint32Array(count)
  }

  get liveUnitsTotal(): number {
    return this.#liveUnitsTotal
  }

  heldUnits(segment: number): number {
    return this.#heldUnits[segment] ?? 0
  }

  add(location: number, units: number): void {
    this.#addLive(segmentOf(location), units)
  }

  remove({ location, units }: Place, wasHeld: boolean): void {
    const segment = segmentOf(location)
    this.#addLive(segment, -units)
    if (wasHeld) this.#heldUnits[segment] = this.heldUnits(segment) - units
  }

  hold({ location, units }: Place): void {
    const segment = segmentOf(location)
    this.#heldUnits[segment] = this.heldUnits(segment) + units
  }

  /** Nothing of it can be found any more. */
  empty(segment: number): void {
    this.#addLive(segment, -(this.#liveUnits[segment] ?? 0))
    this.#heldUnits[segment] = 0
    this.sequences[segment] = 0
  }

  setBusy(segment: number, isBusy: boolean): void {
    if (isBusy) this.#busy.add(segment)
    else this.#busy.delete(segment)
  }

  /** The first that holds nothing. */
  free(): number | undefined {
    for (let segment = 0; segment < this.count; segment += 1) {
      if (this.sequences[segment] === 0 && !this.#busy.has(segment)) return segment
    }
    return undefined
  }

  /** Of those that hold something, the one used longest ago, and of these the oldest. */
  leastUsed(mayHold: (heldUnits: number) => boolean): number | undefined {
    let best: number | undefined
    for (let segment = 0; segment < this.count; segment += 1) {
      if (this.#busy.has(segment) || !mayHold(this.heldUnits(segment))) continue
      if (best === undefined || this.#isBefore(segment, best)) best = segment
    }
    return best
  }

  /** The one of which the least is held, if that is little enough to be written again. */
  leastHeld(): number | undefined {
    let best: number | undefined
    let bestUnits = MOVED_UNITS_MAX + 1
    for (let segment = 0; segment < this.count; segment += 1) {
      const units = this.heldUnits(segment)
      if (this.#busy.has(segment) || units >= bestUnits) continue
      best = segment
      bestUnits = units
    }
    return best
  }

  #isBefore(a: number, b: number): boolean {
    const difference = (this.uses[a] ?? 0) - (this.uses[b] ?? 0)
    return (
      difference < 0 || (difference === 0 && (this.sequences[a] ?? 0) < (this.sequences[b] ?? 0))
    )
  }

  #addLive(segment: number, units: number): void {
    this.#liveUnits[segment] = (this.#liveUnits[segment] ?? 0) + units
    this.#liveUnitsTotal += units
  }
}

export function segmentOf(location: number): number {
  return Math.floor(location / SEGMENT_UNITS)
}
