/**
 * Prepares the segment that is filled after the one there is: one that holds nothing, else the one used
 * longest ago. When what is held may not be given up, a segment of which little is held will do: that is
 * moved into the head first, for which the end of the head is reserved.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { BatchCollector } from './batch-collector.ts'
import { INDEX_BYTES, indexOffsetOf, SEGMENT_UNITS } from './cache-layout.ts'
import type { CacheParts } from './cache-parts.ts'
import type { CachedObject } from './disk-cache.ts'
import type { HeadSegment } from './head-segment.ts'
import type { Place } from './object-table.ts'
import { RECORD_UNITS_MAX } from './record.ts'
import { readHeldObjects } from './segment-mover.ts'
import { MOVED_UNITS_MAX } from './segment-table.ts'

/** Of a segment, while the one after it is not prepared: the rest is for what has to be moved for that. */
const UNRESERVED_UNITS: number = SEGMENT_UNITS - MOVED_UNITS_MAX - SEGMENT_UNITS / 32

/** What the writer does for it. */
export interface HeadWriter {
  /** Copies an object into the head; undefined when there is no room. */
  append(hash: Uint8Array, object: CachedObject): Place | undefined
  /** Returns when all that the head has is on the disk and found there. */
  writeHead(head: HeadSegment): Promise<void>
}

export class SegmentPreparer {
  readonly #parts: CacheParts
  readonly #collector: BatchCollector
  readonly #writer: HeadWriter
  #isFull = false
  #isHolding = false

  constructor(parts: CacheParts, collector: BatchCollector, writer: HeadWriter) {
    this.#parts = parts
    this.#collector = collector
    this.#writer = writer
  }

  /** No segment can be had. */
  get isFull(): boolean {
    return this.#isFull
  }

  /** Whether what is held is not given up. */
  set isHolding(isHolding: boolean) {
    this.#isHolding = isHolding
    this.#isFull = false
  }

  /** Not before the segments ahead of the head are finished: their syncs come first. */
  get mayPrepare(): boolean {
    if (this.#collector.hasNext || this.#isFull) return false
    const { first, head, ended } = this.#collector
    return ended === undefined && (first === undefined || first.head === head)
  }

  /** Whether the rest of the head is kept for what has to be moved. */
  get isHeadReserved(): boolean {
    const { head, hasNext } = this.#collector
    if (!this.#isHolding || this.#isFull || hasNext || head === undefined) return false
    return head.unit + RECORD_UNITS_MAX > UNRESERVED_UNITS
  }

  /** A segment that holds nothing needs no preparation, only before the first write a sync. */
  offerFree(): void {
    const { index, keeper } = this.#parts
    const segment = this.#collector.hasNext ? undefined : index.segments.free()
    if (segment === undefined) return
    index.segments.setBusy(segment, true)
    keeper.willUse(segment)
    this.#collector.offer(segment)
  }

  async prepare(): Promise<void> {
    const { index, keeper, device, layout } = this.#parts
    const { segments } = index
    const segment = this.#choose()
    if (segment === undefined) {
      this.#isFull = true
      return
    }
    segments.setBusy(segment, true)
    if (this.#isHolding && segments.heldUnits(segment) > 0 && !(await this.#moveHeld(segment))) {
      segments.setBusy(segment, false)
      this.#isFull = true
      return
    }
    if (segments.sequences[segment] !== 0) {
      for (const _ of index.dropSegment(segment)) await turn()
      await device.write(Buffer.alloc(INDEX_BYTES), indexOffsetOf(layout, segment))
      keeper.wrote(INDEX_BYTES)
    }
    keeper.willUse(segment)
    await keeper.saveState(false)
    // With nothing being filled there is no sync that comes before its data.
    if (this.#collector.head === undefined) await device.sync()
    this.#collector.offer(segment)
  }

  #choose(): number | undefined {
    const { segments } = this.#parts.index
    const free = segments.free()
    if (free !== undefined) return free
    if (!this.#isHolding) return segments.leastUsed(() => true)
    return segments.leastUsed((heldUnits) => heldUnits === 0) ?? this.#movable()
  }

  #movable(): number | undefined {
    const { segments } = this.#parts.index
    const segment = segments.leastHeld()
    const { head } = this.#collector
    if (segment === undefined || head === undefined) return undefined
    // Each batch may begin up to a page further on.
    const roomUnits = SEGMENT_UNITS - head.unit - SEGMENT_UNITS / 64
    return segments.heldUnits(segment) <= roomUnits ? segment : undefined
  }

  /** Writes what is held in a segment into the head, and waits until it is found there. */
  async #moveHeld(segment: number): Promise<boolean> {
    const { index } = this.#parts
    const { head } = this.#collector
    if (head === undefined) return false
    for (const { hash, object } of await readHeldObjects(this.#parts, segment)) {
      const place = this.#writer.append(hash, object)
      if (place === undefined) return false
      index.put(hash, place, true)
    }
    await this.#writer.writeHead(head)
    return index.segments.heldUnits(segment) === 0
  }
}
