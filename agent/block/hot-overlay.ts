/**
 * The worker's face of the overlay: this client's writes over the RAM tier, both in shared memory.
 * Imported by the workers of the NBD server, which call `openHotDevice`.
 */
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import type { Extent, HotDevice, ReplySink } from '../node-nbd/block-device.ts'
import { FRAME_ZERO, type RamTierMemory } from '../ram-tier/ram-tier.ts'
import { ReadClock } from '../ram-tier/read-clock.ts'
import { ReaderEpochs, type ReaderSlot } from '../ram-tier/reader-epochs.ts'
import { blockCount, checkRange } from './block-size.ts'
import { PlacedFile } from './placed-file.ts'
import { readOnlyError } from './read-only-error.ts'
import { PART_FRAMES, PART_SLOTS, ReadPlan } from './read-plan.ts'
import { BlockAway, isNoRoom, WriteCache } from './write-cache.ts'
import { ENTRY_BASE, isZeroEntry } from './write-cache-entry.ts'
import type { WriteCacheMemory } from './write-cache-files.ts'

/** What the main thread hands to each worker. */
export interface HotOverlayData {
  readonly sizeBytes: number
  readonly tier: RamTierMemory
  /** Absent when the device is read-only. */
  readonly writeCache: WriteCacheMemory | undefined
  /** What is to be durable waits for the server. */
  readonly flushesCold?: boolean
}

/** Blocks looked at for one answer on extents, 1 GiB: a client asks on from where the answer ends. */
const EXTENT_BLOCKS_MAX = 262_144
/** Extents in one answer: what fits into one reply of 8 KiB. */
const EXTENTS_MAX = 1024

export function openHotDevice(data: HotOverlayData): HotDevice {
  return new HotOverlay(data)
}

export class HotOverlay implements HotDevice {
  readonly #sizeBytes: number
  readonly #frameOf: Int32Array<SharedArrayBuffer>
  readonly #frames: Buffer<SharedArrayBuffer>
  readonly #entries: Int32Array<SharedArrayBuffer>
  /** Where slots lie. */
  readonly #data: PlacedFile | undefined
  readonly #writeCache: WriteCache | undefined
  readonly #epochs: ReaderEpochs
  readonly #reader: ReaderSlot
  readonly #plan: ReadPlan
  readonly #flushesCold: boolean

  constructor({ sizeBytes, tier, writeCache, flushesCold = false }: HotOverlayData) {
    this.#flushesCold = flushesCold
    this.#sizeBytes = sizeBytes
    this.#frameOf = new Int32Array(tier.index)
    this.#frames = Buffer.from(tier.frames)
    this.#writeCache = writeCache === undefined ? undefined : new WriteCache(writeCache)
    // Without a write cache, entries that are never touched: they say "base" and cost nothing.
    this.#entries =
      this.#writeCache?.entries ?? new Int32Array(new SharedArrayBuffer(tier.index.byteLength))
    this.#data = writeCache && new PlacedFile(writeCache.data)
    this.#epochs = new ReaderEpochs(tier.epochs)
    this.#reader = this.#epochs.claim()
    const clock = new ReadClock(tier.beganAtMs)
    this.#plan = new ReadPlan(this.#frameOf, new Uint32Array(tier.marks), clock, this.#entries)
  }

  read(offsetBytes: number, lengthBytes: number, sink: ReplySink): boolean {
    checkRange(this.#sizeBytes, offsetBytes, lengthBytes)
    this.#reader.enter()
    const plan = this.#plan
    if (!plan.make(offsetBytes, lengthBytes)) return false
    for (let part = 0; part < plan.count; part += 1) {
      const kind = plan.kinds[part]
      const offset = plan.offsets[part] ?? 0
      const length = plan.lengths[part] ?? 0
      if (kind === PART_FRAMES) sink.appendPart(this.#frames, offset, length)
      else if (kind === PART_SLOTS) this.#appendSlots(sink, offset, length)
      else sink.appendZeros(length)
    }
    return true
  }

  write(offsetBytes: number, bytes: Uint8Array, fua: boolean): boolean {
    checkRange(this.#sizeBytes, offsetBytes, bytes.length)
    const writeCache = this.#writable()
    if (fua && this.#flushesCold) return false
    return ifItCanBe(() => {
      writeCache.write(offsetBytes, bytes, fua)
      return true
    })
  }

  flush(): boolean {
    if (this.#flushesCold) return false
    this.#writeCache?.flush()
    return true
  }

  trim(offsetBytes: number, lengthBytes: number, fua: boolean): boolean {
    checkRange(this.#sizeBytes, offsetBytes, lengthBytes)
    const writeCache = this.#writable()
    if (fua && this.#flushesCold) return false
    return ifItCanBe(() => {
      const pending = writeCache.trim(offsetBytes, lengthBytes, fua)
      return !pending || this.#releaseZeroed(offsetBytes, lengthBytes)
    })
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, _mayTrim: boolean, fua: boolean): boolean {
    checkRange(this.#sizeBytes, offsetBytes, lengthBytes)
    const writeCache = this.#writable()
    if (fua && this.#flushesCold) return false
    return ifItCanBe(() => {
      const pending = writeCache.writeZeroes(offsetBytes, lengthBytes, fua)
      return !pending || this.#releaseZeroed(offsetBytes, lengthBytes)
    })
  }

  extents(offsetBytes: number, lengthBytes: number): Extent[] {
    checkRange(this.#sizeBytes, offsetBytes, lengthBytes)
    const extents: Extent[] = []
    const end = Math.min(offsetBytes + lengthBytes, offsetBytes + EXTENT_BLOCKS_MAX * BLOCK_BYTES)
    for (let at = offsetBytes; at < end && extents.length < EXTENTS_MAX; ) {
      const block = Math.floor(at / BLOCK_BYTES)
      const zero = this.#isZero(block)
      const begin = at
      at = Math.min(end, this.#runEnd(block, blockCount(end), zero) * BLOCK_BYTES)
      extents.push({ lengthBytes: at - begin, zero, hole: zero })
    }
    return extents
  }

  idle(): void {
    this.#reader.leave()
  }

  close(): void {
    this.#reader.release()
  }

  /** Slots that lie behind one another may lie on two disks. */
  #appendSlots(sink: ReplySink, offset: number, length: number): void {
    const data = this.#data as PlacedFile
    for (let done = 0; done < length; done += data.length) {
      data.locate(offset + done, length - done)
      sink.appendFile(data.fd, data.at, data.length)
    }
  }

  /** The first block behind `block`, and before `end`, that is not `zero` as the ones before it. */
  #runEnd(block: number, end: number, zero: boolean): number {
    let at = block + 1
    while (at < end && this.#isZero(at) === zero) at += 1
    return at
  }

  #isZero(block: number): boolean {
    const entry = this.#entries[block] ?? ENTRY_BASE
    return entry === ENTRY_BASE ? this.#frameOf[block] === FRAME_ZERO : isZeroEntry(entry)
  }

  /**
   * Frees the slots when no other worker can be reading them; else the cold device waits for that.
   * This worker's own reads are done: a sink reads files before it returns.
   */
  #releaseZeroed(offsetBytes: number, lengthBytes: number): boolean {
    const writeCache = this.#writable()
    const { drops } = writeCache
    if (!this.#epochs.hasPassed(this.#epochs.advance(), this.#reader)) return false
    return writeCache.releaseZeroed(offsetBytes, lengthBytes, drops)
  }

  #writable(): WriteCache {
    if (this.#writeCache === undefined) throw readOnlyError()
    return this.#writeCache
  }
}

/** The cold device waits for room, and for what is away. */
function ifItCanBe(change: () => boolean): boolean {
  try {
    return change()
  } catch (error) {
    if (isNoRoom(error) || error instanceof BlockAway) return false
    throw error
  }
}
