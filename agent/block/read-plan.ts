/**
 * Where the bytes of one read lie: runs of zeros, of frames of the RAM tier and of slots of the
 * write cache, contiguous ones joined. Reused for every read, so that none allocates.
 */
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { FRAME_ABSENT, FRAME_BASE, FRAME_ZERO } from '../ram-tier/ram-tier.ts'
import type { ReadClock } from '../ram-tier/read-clock.ts'
import { SECTOR_BYTES } from './block-size.ts'
import {
  ENTRY_AWAY,
  ENTRY_BASE,
  entryMask,
  entryOffset,
  FULL_MASK,
  ZERO_MASK,
} from './write-cache-entry.ts'

export const PART_ZEROS = 0
export const PART_FRAMES = 1
export const PART_SLOTS = 2

/** Parts of a read of 1 MiB, block by block; grows for larger ones. */
const PARTS_AT_FIRST = 256

export class ReadPlan {
  /** Number of parts; valid indexes of the arrays are below it. */
  count = 0
  kinds = new Uint8Array(PARTS_AT_FIRST)
  /** Where the part begins in the frames or in the data file. */
  offsets = new Float64Array(PARTS_AT_FIRST)
  lengths = new Float64Array(PARTS_AT_FIRST)

  readonly #frameOf: Int32Array<SharedArrayBuffer>
  readonly #marks: Uint32Array<SharedArrayBuffer>
  readonly #clock: ReadClock
  readonly #entries: Int32Array<SharedArrayBuffer>

  constructor(
    frameOf: Int32Array<SharedArrayBuffer>,
    marks: Uint32Array<SharedArrayBuffer>,
    clock: ReadClock,
    entries: Int32Array<SharedArrayBuffer>,
  ) {
    this.#frameOf = frameOf
    this.#marks = marks
    this.#clock = clock
    this.#entries = entries
  }

  /** Plans the range, made of sectors within the device; returns false when a part of it is not here. */
  make(offsetBytes: number, lengthBytes: number): boolean {
    this.count = 0
    const end = offsetBytes + lengthBytes
    let block = Math.floor(offsetBytes / BLOCK_BYTES)
    let begin = offsetBytes - block * BLOCK_BYTES
    for (let at = offsetBytes; at < end; block += 1) {
      const length = Math.min(BLOCK_BYTES - begin, end - at)
      const entry = this.#entries[block] ?? ENTRY_BASE
      if (entry === ENTRY_BASE) {
        if (!this.#addBase(block, begin, length)) return false
      } else if (!this.#addEntry(entry, block, begin, length)) {
        return false
      }
      at += length
      begin = 0
    }
    return true
  }

  #addBase(block: number, begin: number, length: number): boolean {
    const place = this.#frameOf[block] ?? FRAME_ABSENT
    if (place === FRAME_ABSENT) return false
    if (place === FRAME_ZERO) {
      this.#add(PART_ZEROS, 0, length)
      return true
    }
    const frame = place - FRAME_BASE
    // Looked at before it is written: a line that many threads write is slow to read.
    if (this.#marks[frame] === 0) this.#marks[frame] = this.#clock.now()
    this.#add(PART_FRAMES, frame * BLOCK_BYTES + begin, length)
    return true
  }

  #addEntry(entry: number, block: number, begin: number, length: number): boolean {
    const mask = entryMask(entry)
    if (mask === ZERO_MASK) {
      this.#add(PART_ZEROS, 0, length)
      return true
    }
    if (entry === ENTRY_AWAY) return false
    if (mask === FULL_MASK) {
      this.#add(PART_SLOTS, entryOffset(entry) + begin, length)
      return true
    }
    for (let at = begin; at < begin + length; at += SECTOR_BYTES) {
      if ((mask & (1 << (at / SECTOR_BYTES))) !== 0) {
        this.#add(PART_SLOTS, entryOffset(entry) + at, SECTOR_BYTES)
      } else if (!this.#addBase(block, at, SECTOR_BYTES)) {
        return false
      }
    }
    return true
  }

  #add(kind: number, offset: number, length: number): void {
    const last = this.count - 1
    if (last >= 0 && this.kinds[last] === kind) {
      const lastLength = this.lengths[last] ?? 0
      if (kind === PART_ZEROS || (this.offsets[last] ?? 0) + lastLength === offset) {
        this.lengths[last] = lastLength + length
        return
      }
    }
    if (this.count === this.kinds.length) this.#grow()
    this.kinds[this.count] = kind
    this.offsets[this.count] = offset
    this.lengths[this.count] = length
    this.count += 1
  }

  #grow(): void {
    const size = 2 * this.kinds.length
    const kinds = new Uint8Array(size)
    kinds.set(this.kinds)
    this.kinds = kinds
    const offsets = new Float64Array(size)
    offsets.set(this.offsets)
    this.offsets = offsets
    const lengths = new Float64Array(size)
    lengths.set(this.lengths)
    this.lengths = lengths
  }
}
