/**
 * Writes what is kept. One loop does everything that waits for the disk, in an order that leaves,
 * wherever power is lost, an index that names only what is there:
 *
 *     data of a segment → sync → its index → … → sync → data over a segment whose index was cleared
 *
 * The segment that comes next is prepared (segment-preparer.ts) while the one before it is filled; the
 * sync at the end of that one makes both durable.
 */
import { BatchCollector } from './batch-collector.ts'
import { dataOffsetOf, SEGMENT_UNITS, UNIT_BYTES } from './cache-layout.ts'
import type { CacheParts } from './cache-parts.ts'
import { withDeadline } from './deadline.ts'
import type { CachedObject, DiskCache } from './disk-cache.ts'
import { BATCH_BYTES, batchBytes, type HeadSegment, writeIndex } from './head-segment.ts'
import { entryHash, readEntries } from './index-page.ts'
import type { Place } from './object-table.ts'
import { RECORD_UNITS_MAX, recordUnits } from './record.ts'
import { SegmentPreparer } from './segment-preparer.ts'

/** What is kept waits so long for more; lost with the power, it is fetched again. */
const FLUSH_MS = 15_000

/** Cheap flash may tidy up for seconds; a disk that needs longer is one that hangs. */
const WRITE_DEADLINE_MS = 60_000

export interface SegmentWriterOptions {
  readonly parts: CacheParts
  /** The segment that was filled last, when it has room. */
  readonly head: HeadSegment | undefined
  /** The highest of any segment. */
  readonly sequence: number
  readonly flushMs?: number
  readonly writeDeadlineMs?: number
}

export class SegmentWriter {
  readonly #parts: CacheParts
  readonly #collector: BatchCollector
  readonly #preparer: SegmentPreparer
  readonly #flushMs: number
  readonly #writeDeadlineMs: number
  #flushTimer: NodeJS.Timeout | undefined
  #isFlushDue = false
  #isUsesDue = false
  /** What an earlier process wrote is surely on the disk. */
  #isSettled = false
  #running: Promise<void> | undefined

  constructor({ parts, head, sequence, flushMs, writeDeadlineMs }: SegmentWriterOptions) {
    this.#parts = parts
    this.#flushMs = flushMs ?? FLUSH_MS
    this.#writeDeadlineMs = writeDeadlineMs ?? WRITE_DEADLINE_MS
    this.#collector = new BatchCollector(sequence, (begun) => this.#onHead(begun))
    this.#preparer = new SegmentPreparer(parts, this.#collector, {
      append: (hash, object) => this.#append(hash, object),
      writeHead: async (current) => await this.#writeHead(current),
    })
    if (head !== undefined) this.#collector.resume(head)
    this.#preparer.offerFree()
    this.#preparer.offerFree()
    if (this.#collector.head === undefined) this.#kick()
  }

  get taking(): DiskCache['taking'] {
    const { health, budget } = this.#parts
    const { head, hasRoom, hasNext } = this.#collector
    if (!health.isWritable) return 'never'
    if (budget.leftBytes < BATCH_BYTES) return 'budget'
    const hasPlace = hasNext || (head !== undefined && head.unit + RECORD_UNITS_MAX < SEGMENT_UNITS)
    if (hasPlace && hasRoom && !this.#preparer.isHeadReserved) return 'now'
    return this.#preparer.isFull && !hasPlace ? 'full' : 'later'
  }

  set isHolding(isHolding: boolean) {
    this.#preparer.isHolding = isHolding
    // There may be room now, and nobody keeps anything before that is told.
    if (this.#hasWork()) this.#kick()
  }

  /** Copies an object; undefined when it is not kept. */
  append(hash: Uint8Array, object: CachedObject): Place | undefined {
    const { health, budget } = this.#parts
    const bytes = recordUnits(object.payload.length) * UNIT_BYTES
    if (!health.isWritable || budget.leftBytes < bytes) return undefined
    const place = this.#preparer.isHeadReserved ? undefined : this.#append(hash, object)
    if (this.#hasWork()) this.#kick()
    return place
  }

  #append(hash: Uint8Array, object: CachedObject): Place | undefined {
    const place = this.#collector.append(hash, object)
    if (place === undefined) return undefined
    this.#parts.budget.charge(place.units * UNIT_BYTES)
    this.#flushTimer ??= setTimeout(() => this.#flush(), this.#flushMs).unref()
    return place
  }

  /** The record of an object that is not on the disk yet. */
  find(place: Place): Buffer | undefined {
    return this.#collector.find(place)
  }

  saveUses(): void {
    this.#isUsesDue = true
    this.#kick()
  }

  /** Writes all there is. Returns when that is done, or has failed. */
  async close(): Promise<void> {
    this.#flush()
    while (this.#running !== undefined) await this.#running
    if (!this.#parts.health.isWritable || !this.#isSettled) return
    await this.#timed(this.#sayGoodbye()).catch((error: unknown) => this.#fail(error))
  }

  async #sayGoodbye(): Promise<void> {
    const { keeper, device } = this.#parts
    await keeper.saveUses()
    await keeper.saveState(true)
    await device.sync()
  }

  #flush(): void {
    clearTimeout(this.#flushTimer)
    this.#flushTimer = undefined
    this.#collector.seal()
    this.#isFlushDue = true
    this.#kick()
  }

  #onHead({ segment, sequence }: HeadSegment): void {
    const { index, keeper } = this.#parts
    index.segments.setBusy(segment, true)
    index.segments.sequences[segment] = sequence
    index.segments.uses[segment] = keeper.clock
  }

  // The loop ------------------------------------------------------------------------------------

  #kick(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      if (this.#hasWork()) this.#kick()
    })
  }

  #hasWork(): boolean {
    if (!this.#parts.health.isWritable) return false
    return (
      this.#collector.first !== undefined ||
      this.#collector.ended !== undefined ||
      this.#isFlushDue ||
      this.#isUsesDue ||
      this.#preparer.mayPrepare
    )
  }

  async #run(): Promise<void> {
    try {
      while (this.#hasWork()) await this.#timed(this.#step())
    } catch (error) {
      this.#fail(error)
    }
  }

  async #timed(step: Promise<void>): Promise<void> {
    await withDeadline(step, this.#writeDeadlineMs)
  }

  async #step(): Promise<void> {
    if (!this.#isSettled) return await this.#settle()
    const { ended } = this.#collector
    if (ended !== undefined) return await this.#finish(ended)
    if (this.#preparer.mayPrepare) return await this.#preparer.prepare()
    if (this.#collector.first !== undefined) return await this.#writeFirst()
    if (this.#isFlushDue) return await this.#writeFlushed()
    this.#isUsesDue = false
    await this.#parts.keeper.saveUses()
  }

  async #settle(): Promise<void> {
    await this.#parts.keeper.saveState(false)
    await this.#parts.device.sync()
    this.#isSettled = true
  }

  async #writeFlushed(): Promise<void> {
    this.#isFlushDue = false
    const { head } = this.#collector
    if (head !== undefined) await this.#writeIndex(head)
    if (this.#parts.keeper.isStateDue) await this.#parts.keeper.saveState(false)
  }

  async #writeFirst(): Promise<void> {
    const batch = this.#collector.first
    if (batch === undefined) return
    const { device, layout, keeper } = this.#parts
    const bytes = batchBytes(batch)
    const offset = dataOffsetOf(layout, batch.head.segment) + batch.firstUnit * UNIT_BYTES
    await device.write(bytes, offset)
    keeper.wrote(bytes.length, batch.usedUnits * UNIT_BYTES)
    this.#collector.written()
  }

  async #finish(head: HeadSegment): Promise<void> {
    await this.#writeIndex(head)
    this.#collector.finished()
    this.#parts.index.segments.setBusy(head.segment, false)
  }

  /** All that the head has so far. */
  async #writeHead(head: HeadSegment): Promise<void> {
    this.#collector.seal()
    while (this.#collector.first?.head === head) await this.#writeFirst()
    await this.#writeIndex(head)
    await this.#parts.device.sync()
  }

  /** Makes durable what the head has so far, then says so. */
  async #writeIndex(head: HeadSegment): Promise<void> {
    const { device, layout, cacheId, keeper } = this.#parts
    await device.sync()
    keeper.wrote(await writeIndex(head, device, layout, cacheId))
  }

  // When the disk gives up -------------------------------------------------------------------------

  #fail(error: unknown): void {
    clearTimeout(this.#flushTimer)
    const { index, health } = this.#parts
    health.writeFailed(error)
    for (const { head, firstEntry, usedUnits, firstUnit } of this.#collector.batches) {
      const base = head.segment * SEGMENT_UNITS
      readEntries(head.pages, firstEntry, head.entries, (at, unit) => {
        const isOfBatch = unit >= firstUnit && unit < firstUnit + usedUnits
        if (isOfBatch) index.dropFrom(entryHash(head.pages, at), base + unit)
      })
    }
    this.#collector.abandon()
  }
}
