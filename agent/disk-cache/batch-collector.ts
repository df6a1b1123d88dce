/**
 * Collects records into batches, in memory: the segment that is being filled, the one that comes next,
 * and the batches that are not on the disk yet, out of which reads are answered until they are.
 */
import type { CachedObject } from './disk-cache.ts'
import {
  appendRecord,
  BATCH_BYTES,
  type Batch,
  beginBatch,
  beginSegment,
  fits,
  type HeadSegment,
  hasRoom,
  recordIn,
} from './head-segment.ts'
import type { Place } from './object-table.ts'
import { recordUnits } from './record.ts'

/** In memory and not yet on the disk; more is not kept. Twice what a segment has. */
const BATCHES_MAX = 8

export class BatchCollector {
  readonly #onHead: (head: HeadSegment) => void
  readonly #buffers: Buffer[] = []
  #buffersMade = 0
  #sequence: number
  #head: HeadSegment | undefined
  #next: number | undefined
  #fill: Batch | undefined
  /** Sealed, in order. */
  #sealed: Batch[] = []
  /** Segments nothing is added to any more, until they are finished. */
  readonly #ended: HeadSegment[] = []

  /** `sequence` is the highest of any segment; `onHead` is called with each that is begun. */
  constructor(sequence: number, onHead: (head: HeadSegment) => void) {
    this.#sequence = sequence
    this.#onHead = onHead
  }

  get head(): HeadSegment | undefined {
    return this.#head
  }

  get hasNext(): boolean {
    return this.#next !== undefined
  }

  get hasRoom(): boolean {
    return this.#buffers.length > 0 || this.#buffersMade < BATCHES_MAX
  }

  /** The sealed batch that is to be written next. */
  get first(): Batch | undefined {
    return this.#sealed[0]
  }

  /** The segment that has ended and is on the disk, but for its index. */
  get ended(): HeadSegment | undefined {
    const [head] = this.#ended
    return this.#sealed[0]?.head === head ? undefined : head
  }

  /** Everything that is not on the disk. */
  get batches(): readonly Batch[] {
    return this.#fill === undefined ? this.#sealed : [...this.#sealed, this.#fill]
  }

  /** Goes on with a segment that has room. */
  resume(head: HeadSegment): void {
    this.#head = head
    this.#onHead(head)
  }

  /** Gives a segment that may be written over. */
  offer(segment: number): void {
    this.#next = segment
    this.#beginNext()
  }

  append(hash: Uint8Array, object: CachedObject): Place | undefined {
    const batch = this.#batchFor(recordUnits(object.payload.length))
    return batch && appendRecord(batch, hash, object)
  }

  find(place: Place): Buffer | undefined {
    for (const batch of this.batches) {
      const record = recordIn(batch, place)
      if (record !== undefined) return record
    }
    return undefined
  }

  /** What there is so far is to be written. */
  seal(): void {
    if (this.#fill !== undefined) this.#sealed.push(this.#fill)
    this.#fill = undefined
  }

  /** The first batch is on the disk. */
  written(): void {
    const batch = this.#sealed.shift()
    if (batch !== undefined) this.#buffers.push(batch.buffer)
  }

  /** The ended segment has its index. */
  finished(): void {
    this.#ended.shift()
  }

  /** Nothing more is going to be written. The buffers may still be on their way. */
  abandon(): void {
    this.#sealed = []
    this.#ended.length = 0
    this.#fill = undefined
    this.#head = undefined
  }

  #batchFor(units: number): Batch | undefined {
    if (this.#head !== undefined && !hasRoom(this.#head, units)) this.#endHead()
    if (this.#head === undefined) return undefined
    if (this.#fill !== undefined && fits(this.#fill, units)) return this.#fill
    this.seal()
    const buffer = this.#buffer()
    if (buffer === undefined) return undefined
    this.#fill = beginBatch(this.#head, buffer)
    return this.#fill
  }

  #buffer(): Buffer | undefined {
    const buffer = this.#buffers.pop()
    if (buffer !== undefined || this.#buffersMade === BATCHES_MAX) return buffer
    this.#buffersMade += 1
    return Buffer.allocUnsafeSlow(BATCH_BYTES)
  }

  #endHead(): void {
    const head = this.#head
    if (head === undefined) return
    this.seal()
    this.#ended.push(head)
    this.#head = undefined
    this.#beginNext()
  }

  #beginNext(): void {
    if (this.#head !== undefined || this.#next === undefined) return
    this.#sequence += 1
    this.resume(beginSegment(this.#next, this.#sequence))
    this.#next = undefined
  }
}
