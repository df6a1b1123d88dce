/**
 * What every change of a write cache is made of: slots taken and given back, entries written to the table and
 * then shown to all threads. All of it under the lock. Each thread that changes a cache has instances of its
 * own over the same shared memory and descriptors.
 */
import { fdatasyncSync, ftruncateSync } from 'node:fs'
import { constants } from 'node:os'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { MiB } from '#shared/units.ts'
import { NbdError } from '../node-nbd/block-device.ts'
import { SharedMutex } from '../node-nbd/shared-mutex.ts'
import { sectorMask } from './block-size.ts'
import { PlacedFile } from './placed-file.ts'
import { SlotBitmap } from './slot-bitmap.ts'
import { ENTRY_BASE, hasSlot } from './write-cache-entry.ts'
import {
  CONTROL_FILE_SLOTS,
  CONTROL_FILL_LEVEL,
  CONTROL_LOCK,
  CONTROL_ROOM,
  type WriteCacheMemory,
} from './write-cache-files.ts'
import { encodeEntry, TABLE_ENTRY_BYTES, TABLE_HEADER_BYTES } from './write-cache-format.ts'

/** Parts of the limit that are announced when reached, in percent. */
export const FILL_LEVELS = [75, 90, 100] as const
export type FillLevel = (typeof FILL_LEVELS)[number]

/** A level is left only this far below it, so that writing around it announces it once. */
const FILL_LEVEL_SLACK = 5

/** Blocks changed under the lock at once. A larger request lets others in between. */
export const PIECE_BLOCKS: number = (4 * MiB) / BLOCK_BYTES

export class WriteCacheCore {
  readonly entries: Int32Array<SharedArrayBuffer>
  protected readonly memory: WriteCacheMemory
  protected readonly control: Int32Array<SharedArrayBuffer>
  protected readonly slots: SlotBitmap
  /** A bit per block; see WriteCacheMemory. */
  protected readonly changed: Int32Array<SharedArrayBuffer> | undefined
  protected readonly data: PlacedFile
  readonly #tableFile: PlacedFile
  protected readonly lock: SharedMutex

  // Scratch of one change, so that none allocates.
  protected readonly freshSlots: Int32Array = new Int32Array(PIECE_BLOCKS)
  protected readonly newEntries: Int32Array = new Int32Array(PIECE_BLOCKS)
  readonly #table: Buffer = Buffer.alloc(PIECE_BLOCKS * TABLE_ENTRY_BYTES)

  constructor(memory: WriteCacheMemory) {
    this.memory = memory
    this.entries = new Int32Array(memory.entries)
    this.control = new Int32Array(memory.control)
    this.lock = new SharedMutex(this.control, CONTROL_LOCK)
    this.slots = new SlotBitmap(memory.slots)
    this.changed = memory.changed && new Int32Array(memory.changed)
    this.data = new PlacedFile(memory.data)
    this.#tableFile = new PlacedFile(memory.table)
  }

  get usedBytes(): number {
    return this.slots.taken * BLOCK_BYTES
  }

  /** Most bytes that may come to be used, without the reserve. */
  get limitBytes(): number {
    return this.usableSlots * BLOCK_BYTES
  }

  /** The sectors that a block has: the last one may be shorter. */
  protected wholeMask(block: number): number {
    return maskWithin(block, 0, this.memory.sizeBytes)
  }

  /** Takes a slot for each block of the piece that has none; returns how many. */
  protected takeFreshSlots(first: number, count: number): number {
    let fresh = 0
    for (let at = 0; at < count; at += 1) {
      if (!hasSlot(this.entries[first + at] ?? ENTRY_BASE)) fresh += 1
    }
    if (fresh === 0) return 0
    if (!this.slots.take(this.freshSlots, fresh)) {
      throw new NbdError(
        constants.errno.ENOSPC,
        `Cannot write ${count} blocks: the write cache is full with ${this.usedBytes} of ${this.limitBytes} bytes`,
      )
    }
    const { headBytes } = this.memory.data
    const fileSlots = Math.min((this.freshSlots[fresh - 1] ?? 0) + 1, headBytes / BLOCK_BYTES)
    if (fileSlots > (this.control[CONTROL_FILE_SLOTS] ?? 0)) {
      this.control[CONTROL_FILE_SLOTS] = fileSlots
    }
    return fresh
  }

  /** Frees the first fresh slots, and the room of what was written to them: it may be wanted now. */
  protected giveBack(fresh: number): void {
    for (let at = 0; at < fresh; at += 1) this.slots.free(this.freshSlots[at] ?? 0)
    try {
      this.cutFile()
    } catch {
      // The room comes back with the next release; what failed first is what is told.
    }
  }

  /** Writes #newEntries to the table and then shows them to all threads. */
  protected publish(first: number, count: number): void {
    for (let at = 0; at < count; at += 1) {
      encodeEntry(this.#table, at * TABLE_ENTRY_BYTES, this.newEntries[at] ?? ENTRY_BASE)
    }
    const tableAt = TABLE_HEADER_BYTES + first * TABLE_ENTRY_BYTES
    this.#tableFile.write(this.#table, 0, count * TABLE_ENTRY_BYTES, tableAt)
    for (let at = 0; at < count; at += 1) {
      Atomics.store(this.entries, first + at, this.newEntries[at] ?? ENTRY_BASE)
    }
  }

  /**
   * Puts back what a change that failed has written to the table, so that it says what the shared
   * entries say. Needs no room: only what was written is written again. Returns whether it went well.
   */
  protected restoreTable(first: number, count: number): boolean {
    const length = count * TABLE_ENTRY_BYTES
    const tableAt = TABLE_HEADER_BYTES + first * TABLE_ENTRY_BYTES
    const old = Buffer.alloc(TABLE_ENTRY_BYTES)
    try {
      this.#tableFile.read(this.#table, 0, length, tableAt)
      for (let at = 0; at < length; at += TABLE_ENTRY_BYTES) {
        encodeEntry(old, 0, this.entries[first + at / TABLE_ENTRY_BYTES] ?? ENTRY_BASE)
        if (old.compare(this.#table, at, at + TABLE_ENTRY_BYTES) === 0) continue
        this.#tableFile.write(old, 0, TABLE_ENTRY_BYTES, tableAt + at)
      }
      return true
    } catch {
      return false
    }
  }

  /** Gives the memory behind the last slot in use back. */
  protected cutFile(): void {
    const present = this.control[CONTROL_FILE_SLOTS] ?? 0
    const needed = this.slots.end(present)
    if (needed === present) return
    ftruncateSync(this.memory.data.headFd, needed * BLOCK_BYTES)
    this.control[CONTROL_FILE_SLOTS] = needed
  }

  protected announceFill(): void {
    const percent = (this.slots.taken / this.usableSlots) * 100
    const present = this.control[CONTROL_FILL_LEVEL] ?? 0
    const reached = FILL_LEVELS.findLast((level) => percent >= level) ?? 0
    if (reached > present || percent < present - FILL_LEVEL_SLACK) this.setFillLevel(reached)
  }

  protected setFillLevel(level: FillLevel | 0): void {
    if (Atomics.exchange(this.control, CONTROL_FILL_LEVEL, level) === level) return
    Atomics.notify(this.control, CONTROL_FILL_LEVEL)
  }

  protected get usableSlots(): number {
    return this.memory.slotsMax - this.memory.slotsReserved
  }

  protected syncData(): void {
    const { headFd, headBytes, areaFd } = this.memory.data
    if (headBytes > 0) fdatasyncSync(headFd)
    if (areaFd >= 0) fdatasyncSync(areaFd)
  }

  protected syncTable(): void {
    const { headFd, areaFd } = this.memory.table
    fdatasyncSync(headFd >= 0 ? headFd : areaFd)
  }

  protected tellRoom(): void {
    Atomics.add(this.control, CONTROL_ROOM, 1)
    Atomics.notify(this.control, CONTROL_ROOM)
  }

  protected noteChanged(first: number, count: number): void {
    const changed = this.changed
    if (changed === undefined) return
    for (let block = first; block < first + count; block += 1) {
      Atomics.or(changed, block >>> 5, 1 << (block & 31))
    }
  }
}

/** The sectors of a block that are within the range. */
export function maskWithin(block: number, beginBytes: number, endBytes: number): number {
  const blockAt = block * BLOCK_BYTES
  const begin = Math.max(beginBytes - blockAt, 0)
  return sectorMask(begin, Math.min(endBytes - blockAt, BLOCK_BYTES))
}

export function nbdError(action: string, cause: unknown): NbdError {
  const full = cause instanceof Error && 'code' in cause && cause.code === 'ENOSPC'
  const errno = full ? constants.errno.ENOSPC : constants.errno.EIO
  const why = cause instanceof Error ? cause.message : String(cause)
  return new NbdError(errno, `Cannot ${action} in the write cache: ${why}`, { cause })
}
