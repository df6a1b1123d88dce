/**
 * The cache of FORMAT.md: an index in memory, segments on the disk. Reads come out of the batches that
 * are not written yet, or from the disk in runs; what is kept goes to the writer.
 */

import { invariant } from '#shared/invariant.ts'
import { HASH_BYTES } from '#shared/manifest/content-hash.ts'
import { SEGMENT_BYTES, UNIT_BYTES } from './cache-layout.ts'
import type { CacheParts } from './cache-parts.ts'
import { withDeadline } from './deadline.ts'
import type { CachedObject, DiskCache, DiskCacheStats } from './disk-cache.ts'
import type { DiskReader } from './disk-reader.ts'
import type { Place } from './object-table.ts'
import { planRuns, type ReadRun, type Wanted } from './read-runs.ts'
import { readRecord } from './record.ts'
import { segmentOf } from './segment-table.ts'
import type { SegmentWriter } from './segment-writer.ts'

/** What a boot used is known soon, for machines that are switched off at the wall; then by the hour. */
const FIRST_USES_MS = 300_000
const USES_MS = 3_600_000

/** Less than a machine that is switched off gives its agent. */
const CLOSE_DEADLINE_MS = 5_000

type OnObject = (index: number, object: CachedObject | undefined) => void

interface Reading {
  readonly hashes: readonly Uint8Array[]
  readonly onObject: OnObject
  readonly moved: number[]
}

export interface LogDiskCacheOptions {
  readonly parts: CacheParts
  readonly reader: DiskReader
  readonly writer: SegmentWriter
  readonly hasServer: () => boolean
}

export class LogDiskCache implements DiskCache {
  readonly #parts: CacheParts
  readonly #reader: DiskReader
  readonly #writer: SegmentWriter
  readonly #hasServer: () => boolean
  #usesTimer: NodeJS.Timeout
  #isHolding = false
  #isClosed = false

  constructor({ parts, reader, writer, hasServer }: LogDiskCacheOptions) {
    this.#parts = parts
    this.#reader = reader
    this.#writer = writer
    this.#hasServer = hasServer
    this.#usesTimer = this.#saveUsesIn(FIRST_USES_MS)
  }

  get objectCount(): number {
    return this.#parts.index.size
  }

  get memoryBytes(): number {
    return this.#parts.index.memoryBytes
  }

  get taking(): DiskCache['taking'] {
    return this.#isClosed ? 'never' : this.#writer.taking
  }

  get losses(): number {
    const { index, health } = this.#parts
    // All of it, when it cannot be read.
    return index.losses + (health.isReadable ? 0 : 1)
  }

  holdFromNowOn(): void {
    this.#isHolding = true
    this.#writer.isHolding = true
  }

  has(hash: Uint8Array): boolean {
    const { index, health } = this.#parts
    if (!health.isReadable || (health.isStalled && this.#hasServer())) return false
    const place = index.get(hash)
    if (place === undefined) return false
    if (this.#isHolding) index.hold(hash, place)
    return true
  }

  async read(hashes: readonly Uint8Array[], onObject: OnObject): Promise<void> {
    let reading: Reading = { hashes, onObject, moved: [] }
    let indexes = hashes.map((_, index) => index)
    // What was moved while it was read is read where it is now.
    while (indexes.length > 0) {
      reading = { ...reading, moved: [] }
      await this.#readOnce(indexes, reading)
      indexes = reading.moved
    }
  }

  keep(hash: Uint8Array, object: CachedObject): boolean {
    invariant(hash.length === HASH_BYTES, `a hash of ${hash.length} bytes`)
    const { index } = this.#parts
    const present = index.get(hash)
    if (present !== undefined) {
      if (this.#isHolding) index.hold(hash, present)
      return true
    }
    const place = this.#isClosed ? undefined : this.#writer.append(hash, object)
    if (place === undefined) return false
    index.put(hash, place, this.#isHolding)
    return true
  }

  forget(hash: Uint8Array): void {
    this.#parts.index.drop(hash)
  }

  stats(): DiskCacheStats {
    const { index, layout, budget, health } = this.#parts
    return {
      state: health.isGood ? 'ready' : 'failed',
      usedBytes: index.segments.liveUnitsTotal * UNIT_BYTES,
      capacityBytes: layout.segments * SEGMENT_BYTES,
      writeBudgetLeftBytes: budget.leftBytes,
      problem: health.problem,
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#usesTimer)
    try {
      // What is not written by then is fetched again; nobody waits for a disk to go home.
      await withDeadline(this.#writer.close(), CLOSE_DEADLINE_MS)
    } catch {
      return // who hangs has the descriptor
    }
    if (!this.#parts.health.isStalled) await this.#parts.device.close().catch(() => undefined)
  }

  #saveUsesIn(delayMs: number): NodeJS.Timeout {
    const save = () => {
      this.#writer.saveUses()
      this.#usesTimer = this.#saveUsesIn(USES_MS)
    }
    return setTimeout(save, delayMs).unref()
  }

  #use(hash: Uint8Array): Place | undefined {
    const { index, keeper } = this.#parts
    const place = index.get(hash)
    if (place === undefined) return undefined
    index.segments.uses[segmentOf(place.location)] = keeper.clock
    if (this.#isHolding) index.hold(hash, place)
    return place
  }

  async #readOnce(indexes: readonly number[], reading: Reading): Promise<void> {
    const { hashes, onObject } = reading
    const wanted: Wanted[] = []
    for (const index of indexes) {
      const hash = hashes[index]
      const place = this.#isClosed || hash === undefined ? undefined : this.#use(hash)
      const record = place && this.#writer.find(place)
      if (record !== undefined && hash !== undefined) onObject(index, readRecord(record, hash))
      else if (place !== undefined) wanted.push({ ...place, index })
      else onObject(index, undefined)
    }
    await Promise.all(planRuns(wanted).map(async (run) => await this.#readRun(run, reading)))
  }

  /** One block that cannot be read must not cost its neighbors: then each by itself. */
  async #readRun(run: ReadRun, reading: Reading): Promise<void> {
    const { layout, health } = this.#parts
    const { offset, length, objects } = run
    const isRead = await this.#reader.read(layout.dataOffset + offset, length, (bytes) => {
      for (const object of objects) this.#give(object, run, bytes, reading)
    })
    if (isRead) return
    if (objects.length > 1 && health.isReadable && !health.isStalled) {
      const each = objects.flatMap((object) => planRuns([object]))
      await Promise.all(each.map(async (one) => await this.#readRun(one, reading)))
      return
    }
    for (const { index } of objects) {
      const hash = reading.hashes[index]
      // A hole in the disk is one for ever, a disk that does not answer now may do so later.
      if (hash !== undefined && !health.isStalled) this.forget(hash)
      reading.onObject(index, undefined)
    }
  }

  #give(object: Wanted, run: ReadRun, bytes: Buffer, reading: Reading): void {
    const hash = reading.hashes[object.index]
    if (hash === undefined) return
    const { index } = this.#parts
    if (!index.isAt(hash, object)) {
      // It may have been written over while it was read.
      if (index.get(hash) === undefined) reading.onObject(object.index, undefined)
      else reading.moved.push(object.index)
      return
    }
    const from = object.location * UNIT_BYTES - run.offset
    const found = readRecord(bytes.subarray(from, from + object.units * UNIT_BYTES), hash)
    if (found === undefined) this.forget(hash)
    reading.onObject(object.index, found)
  }
}
