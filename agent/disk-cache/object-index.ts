/** The objects of a cache by hash, and what that means for the segments they lie in. */
import { SEGMENT_UNITS } from './cache-layout.ts'
import { ENTRIES_MAX } from './index-page.ts'
import { ObjectTable, type Place } from './object-table.ts'
import { SegmentTable } from './segment-table.ts'

export class ObjectIndex {
  readonly segments: SegmentTable
  readonly #table = new ObjectTable()
  #losses = 0

  constructor(segmentCount: number) {
    this.segments = new SegmentTable(segmentCount)
  }

  get size(): number {
    return this.#table.size
  }

  /** Grows with what was dropped. */
  get losses(): number {
    return this.#losses
  }

  get memoryBytes(): number {
    return this.#table.bytes
  }

  get(hash: Uint8Array): Place | undefined {
    return this.#table.get(hash)
  }

  isHeld(hash: Uint8Array): boolean {
    return this.#table.isHeld(hash)
  }

  /** In place of where it was before, if it was anywhere. */
  put(hash: Uint8Array, place: Place, isHeld: boolean): void {
    this.#remove(hash)
    this.#table.add(hash, place.location, place.units)
    this.segments.add(place.location, place.units)
    if (isHeld) this.hold(hash, place)
  }

  /** Before `load`. A number that is wrong costs time or memory, nothing else. */
  reserve(objects: number): void {
    // An index cannot name more than this.
    this.#table.reserve(Math.min(objects, this.segments.count * ENTRIES_MAX))
  }

  /** As it is found at start-up: of two, one is as good as the other. The hash begins at `from`. */
  load(bytes: Uint8Array, from: number, location: number, units: number): void {
    if (this.#table.add(bytes, location, units, from)) this.segments.add(location, units)
  }

  /** What is held stays when there is any other choice. */
  hold(hash: Uint8Array, place: Place): void {
    if (this.#table.hold(hash)) this.segments.hold(place)
  }

  drop(hash: Uint8Array): void {
    if (this.#remove(hash)) this.#losses += 1
  }

  /** Unless it lies somewhere else by now. */
  dropFrom(hash: Uint8Array, location: number): void {
    if (this.#table.get(hash)?.location === location) this.drop(hash)
  }

  /** Drops all that lies in a segment, in steps between which others may run. */
  *dropSegment(segment: number): Generator<void> {
    const first = segment * SEGMENT_UNITS
    if (this.segments.heldUnits(segment) > 0) this.#losses += 1
    yield* this.#table.deleteRange(first, first + SEGMENT_UNITS)
    this.segments.empty(segment)
  }

  /** Whether it is still where it was: nothing was written over it meanwhile. */
  isAt(hash: Uint8Array, { location }: Place): boolean {
    return this.#table.get(hash)?.location === location
  }

  #remove(hash: Uint8Array): boolean {
    const place = this.#table.get(hash)
    if (place === undefined) return false
    this.segments.remove(place, this.#table.isHeld(hash))
    this.#table.delete(hash)
    return true
  }
}
