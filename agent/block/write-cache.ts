/**
 * This client's writes: whole or partial blocks of 4 KiB in slots of a data file, found through a
 * table (WRITE-CACHE-FORMAT.md). Every thread that uses the cache has an instance of its own over
 * the same shared memory and descriptors.
 *
 * - Changes are made under a lock, in an order that a process may be killed at any point of: data,
 *   then table, then the shared entries, then the acknowledgment. A slot is given to another block
 *   only after the table says that the former one is without.
 * - Workers read the entries without the lock (see ReaderEpochs): a slot that a block loses by trim
 *   or zeroes stays with it, as a zero entry with a slot, until `releaseZeroed` is called when no
 *   other reader can be at it. Between the two it may be written, read and dropped once more by
 *   other threads, hence the count of drops: the readers waited for must be those of the last one.
 * - On a medium that survives a loss of power, a table must never get there before the data it
 *   speaks of: new entries wait for fdatasync of the data, freed slots for that of the table.
 */

import { fdatasyncSync, ftruncateSync } from 'node:fs'
import { constants } from 'node:os'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { MiB } from '#shared/units.ts'
import { NbdError } from '../node-nbd/block-device.ts'
import { SharedMutex } from '../node-nbd/shared-mutex.ts'
import { EXTENT_BYTES } from '../write-area/area-layout.ts'
import { blockCount, SECTOR_BYTES, sectorMask } from './block-size.ts'
import { PlacedFile } from './placed-file.ts'
import { SlotBitmap } from './slot-bitmap.ts'
import {
  ENTRY_AWAY,
  ENTRY_BASE,
  ENTRY_ZERO,
  entryMask,
  entryOffset,
  entrySlot,
  FULL_MASK,
  hasSlot,
  isZeroEntry,
  makeEntry,
  ZERO_MASK,
} from './write-cache-entry.ts'
import {
  CONTROL_DROPS,
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
const PIECE_BLOCKS = (4 * MiB) / BLOCK_BYTES

const EXTENT_SLOTS = EXTENT_BYTES / BLOCK_BYTES

export class WriteCache {
  readonly entries: Int32Array<SharedArrayBuffer>
  readonly #memory: WriteCacheMemory
  readonly #control: Int32Array<SharedArrayBuffer>
  readonly #lock: SharedMutex
  readonly #slots: SlotBitmap
  /** A bit per block; see WriteCacheMemory. */
  readonly #changed: Int32Array<SharedArrayBuffer> | undefined
  readonly #data: PlacedFile
  readonly #tableFile: PlacedFile

  // Scratch of one change, so that none allocates.
  readonly #freshSlots = new Int32Array(PIECE_BLOCKS)
  readonly #newEntries = new Int32Array(PIECE_BLOCKS)
  readonly #table = Buffer.alloc(PIECE_BLOCKS * TABLE_ENTRY_BYTES)
  readonly #block = Buffer.alloc(BLOCK_BYTES)
  readonly #zeros = Buffer.alloc(BLOCK_BYTES)

  constructor(memory: WriteCacheMemory) {
    this.#memory = memory
    this.entries = new Int32Array(memory.entries)
    this.#control = new Int32Array(memory.control)
    this.#lock = new SharedMutex(this.#control, CONTROL_LOCK)
    this.#slots = new SlotBitmap(memory.slots)
    this.#changed = memory.changed && new Int32Array(memory.changed)
    this.#data = new PlacedFile(memory.data)
    this.#tableFile = new PlacedFile(memory.table)
  }

  get usedBytes(): number {
    return this.#slots.taken * BLOCK_BYTES
  }

  /** Most bytes that may come to be used, without the reserve. */
  get limitBytes(): number {
    return this.#usableSlots * BLOCK_BYTES
  }

  /** Counts on when there is more room than before. Look before trying what may find none. */
  get roomMade(): number {
    return Atomics.load(this.#control, CONTROL_ROOM)
  }

  /** Settles when `roomMade` is no longer what was seen, or after `patienceMs`. */
  async untilRoom(seen: number, patienceMs: number): Promise<void> {
    await Atomics.waitAsync(this.#control, CONTROL_ROOM, seen, patienceMs).value
  }

  /** Another extent of the area, durably this cache's, is there for slots. */
  addExtent(extent: number): void {
    const { headBytes } = this.#memory.data
    const headSlots = headBytes / BLOCK_BYTES
    this.#lock.lock()
    try {
      const present = this.#slots.limit - headSlots
      this.#data.addExtent(present / EXTENT_SLOTS, extent)
      this.#slots.raiseLimit(Math.min(this.#slots.limit + EXTENT_SLOTS, this.#memory.slotsMax))
    } finally {
      this.#lock.unlock()
    }
    this.#tellRoom()
  }

  /** The system goes down: what was kept for that may be used. */
  openReserve(): void {
    this.#slots.openReserve()
    this.#tellRoom()
  }

  /** Nothing more can be had, and somebody waits for it. */
  announceFull(): void {
    this.#setFillLevel(100)
  }

  /**
   * Writes whole sectors within the device; with `fua`, returns after they are durable.
   * @throws {NbdError} ENOSPC when there is no room, EIO; a part may have been written
   */
  write(offsetBytes: number, bytes: Uint8Array, fua: boolean): void {
    for (let done = 0; done < bytes.length; ) {
      const length = Math.min(bytes.length - done, bytesToPieceEnd(offsetBytes + done))
      this.#lock.lock()
      try {
        this.#writePiece(offsetBytes + done, bytes, done, length)
      } finally {
        this.#lock.unlock()
      }
      done += length
    }
    if (fua) this.flush()
  }

  /**
   * Makes the range read as zeros. Returns whether slots wait for `releaseZeroed`.
   * @throws {NbdError} as `write`
   */
  writeZeroes(offsetBytes: number, lengthBytes: number, fua: boolean): boolean {
    const { first, end } = this.#wholeBlocks(offsetBytes, lengthBytes)
    const rangeEnd = offsetBytes + lengthBytes
    const headEnd = Math.min(first * BLOCK_BYTES, rangeEnd)
    this.#writeZeroSectors(offsetBytes, headEnd)
    this.#writeZeroSectors(Math.max(headEnd, end * BLOCK_BYTES), rangeEnd)
    // Last: were there no room for the ends, the slots that this gives up would wait in vain.
    const pending = this.#dropBlocks(first, end, ENTRY_ZERO)
    if (fua) this.flush()
    return pending
  }

  /**
   * Gives back the room of the range's whole blocks, which then read as zeros; blocks that were
   * never written stay as they are, so that trimming a large disk takes no memory. Returns whether
   * slots wait for `releaseZeroed`.
   * @throws {NbdError} EIO
   */
  trim(offsetBytes: number, lengthBytes: number, fua: boolean): boolean {
    const { first, end } = this.#wholeBlocks(offsetBytes, lengthBytes)
    const pending = this.#dropBlocks(first, end, ENTRY_BASE)
    if (fua) this.flush()
    return pending
  }

  /** How often slots were taken from blocks, by any thread. Look before waiting for the readers. */
  get drops(): number {
    return Atomics.load(this.#control, CONTROL_DROPS)
  }

  /**
   * Frees the slots of zero blocks in the range. Call when no other thread can still read what was
   * dropped before there were `drops`. Returns false, and frees nothing, when there are more now.
   */
  releaseZeroed(offsetBytes: number, lengthBytes: number, drops: number): boolean {
    const { first, end } = this.#wholeBlocks(offsetBytes, lengthBytes)
    this.#lock.lock()
    try {
      if (this.drops !== drops) return false
      if (this.#memory.durable) this.#syncTable()
      for (let block = first; block < end; block += 1) {
        const entry = this.entries[block] ?? ENTRY_BASE
        if (!isZeroEntry(entry) || !hasSlot(entry)) continue
        this.entries[block] = ENTRY_ZERO
        this.#slots.free(entrySlot(entry))
      }
      this.#cutFile()
      this.#announceFill()
      this.#tellRoom()
      return true
    } catch (cause) {
      throw nbdError('free', cause)
    } finally {
      this.#lock.unlock()
    }
  }

  /** Returns after everything written so far is durable; at once on a medium that never is. */
  flush(): void {
    if (!this.#memory.durable) return
    try {
      this.#syncData()
      this.#syncTable()
    } catch (cause) {
      throw nbdError('flush', cause)
    }
  }

  /** Whether every byte of the range is here, so that nothing of the base is needed. */
  covers(offsetBytes: number, lengthBytes: number): boolean {
    const end = offsetBytes + lengthBytes
    for (let block = Math.floor(offsetBytes / BLOCK_BYTES); block * BLOCK_BYTES < end; block += 1) {
      const mask = writtenMask(this.entries[block] ?? ENTRY_BASE)
      const wanted = maskWithin(block, offsetBytes, end)
      if ((mask & wanted) !== wanted) return false
    }
    return true
  }

  /**
   * Lays what was written over the target, which holds the base's bytes from the offset on. For
   * threads that are no readers: it takes the lock. Returns the blocks of the range that are away and not
   * in `fetched`, whose bytes the target has already.
   */
  overlay(
    offsetBytes: number,
    target: Uint8Array,
    fetched: ReadonlySet<number> = NO_BLOCKS,
  ): number[] {
    const end = offsetBytes + target.length
    const away: number[] = []
    this.#lock.lock()
    try {
      for (let block = Math.floor(offsetBytes / BLOCK_BYTES); block * BLOCK_BYTES < end; ) {
        if (this.entries[block] === ENTRY_AWAY) {
          if (!fetched.has(block)) away.push(block)
          block += 1
        } else block += this.#overlayRun(block, offsetBytes, target, end)
      }
      return away
    } catch (cause) {
      throw nbdError('read', cause)
    } finally {
      this.#lock.unlock()
    }
  }

  // What follows is for who gives blocks to a server: the main thread.

  /** The first changed block from `from` on, below `end`; undefined when there is none. */
  nextChanged(from: number, end: number): number | undefined {
    const changed = this.#changed
    if (changed === undefined) return undefined
    for (let block = from; block < end; ) {
      const bits = (changed[block >>> 5] ?? 0) >>> (block & 31)
      if (bits !== 0) {
        const found = block + 31 - Math.clz32(bits & -bits)
        return found < end ? found : undefined
      }
      block = ((block >>> 5) + 1) << 5
    }
    return undefined
  }

  /** Whether a block was changed since it was taken. */
  isChanged(block: number): boolean {
    return ((this.#changed?.[block >>> 5] ?? 0) & (1 << (block & 31))) !== 0
  }

  /** What was taken was lost on its way. */
  markChanged(block: number): void {
    this.#markChanged(block, 1)
  }

  /**
   * Takes a changed block, which is as if unchanged then: copies its bytes, where it has all of them.
   * `part` is one of which the base has the rest: it stays changed, `complete` it.
   */
  take(block: number, target: Uint8Array): 'data' | 'zero' | 'part' | 'nothing' {
    this.#lock.lock()
    try {
      const entry = this.entries[block] ?? ENTRY_BASE
      const isPart = hasSlot(entry) && !isZeroEntry(entry) && !this.#isWhole(block, entry)
      if (isPart) return 'part'
      this.#clearChanged(block)
      if (isZeroEntry(entry)) return 'zero'
      if (!hasSlot(entry)) return 'nothing'
      const length = this.#lengthOf(block)
      target.fill(0, length)
      this.#data.read(target, 0, length, entryOffset(entry))
      return 'data'
    } catch (cause) {
      this.#markChanged(block, 1)
      throw nbdError('read', cause)
    } finally {
      this.#lock.unlock()
    }
  }

  /** Puts the base's bytes into a block of which a part was written. */
  complete(block: number, base: Uint8Array): void {
    this.#lock.lock()
    try {
      const entry = this.entries[block] ?? ENTRY_BASE
      if (!hasSlot(entry) || isZeroEntry(entry) || this.#isWhole(block, entry)) return
      const length = this.#lengthOf(block)
      for (let at = 0; at < length; at += SECTOR_BYTES) {
        if ((entryMask(entry) & (1 << (at / SECTOR_BYTES))) !== 0) continue
        this.#data.write(base, at, SECTOR_BYTES, entryOffset(entry) + at)
      }
      if (this.#memory.durable) this.#syncData()
      this.#newEntries[0] = makeEntry(entrySlot(entry), this.#wholeMask(block))
      this.#publish(block, 1)
    } catch (cause) {
      throw nbdError('write', cause)
    } finally {
      this.#lock.unlock()
    }
  }

  /**
   * Gives the room of a block up that the server has, unless it was changed since it was taken. Its slot is
   * to be freed once no reader can be at it (`freeSlot`). Returns it; undefined when nothing was given up.
   */
  giveAway(block: number): number | undefined {
    this.#lock.lock()
    try {
      const entry = this.entries[block] ?? ENTRY_BASE
      if (this.isChanged(block) || !hasSlot(entry) || isZeroEntry(entry)) return undefined
      if (!this.#isWhole(block, entry)) return undefined
      this.#newEntries[0] = ENTRY_AWAY
      this.#publish(block, 1)
      return entrySlot(entry)
    } catch (cause) {
      throw nbdError('write', cause)
    } finally {
      this.#lock.unlock()
    }
  }

  freeSlots(slots: readonly number[]): void {
    this.#lock.lock()
    try {
      if (this.#memory.durable) this.#syncTable()
      for (const slot of slots) this.#slots.free(slot)
      this.#cutFile()
      this.#announceFill()
    } finally {
      this.#lock.unlock()
    }
    this.#tellRoom()
  }

  /** A block that is away is here again, unless something else was written meanwhile. @throws ENOSPC */
  bringBack(block: number, bytes: Uint8Array): void {
    this.#lock.lock()
    try {
      if (this.entries[block] !== ENTRY_AWAY) return
      const fresh = this.#takeFreshSlots(block, 1)
      try {
        const entry = makeEntry(this.#freshSlots[0] ?? 0, this.#wholeMask(block))
        this.#data.write(bytes, 0, this.#lengthOf(block), entryOffset(entry))
        if (this.#memory.durable) this.#syncData()
        this.#newEntries[0] = entry
        this.#publish(block, 1)
      } catch (cause) {
        if (this.#restoreTable(block, 1)) this.#giveBack(fresh)
        throw nbdError('write', cause)
      }
    } finally {
      this.#lock.unlock()
    }
  }

  /** What an earlier boot has left on the server. Call before anything is read or written. */
  adopt(firstBlock: number, blocks: number, isZero: boolean): void {
    const end = Math.min(firstBlock + blocks, this.entries.length)
    for (let block = firstBlock; block < end; block += PIECE_BLOCKS) {
      const count = Math.min(end - block, PIECE_BLOCKS)
      this.#newEntries.fill(isZero ? ENTRY_ZERO : ENTRY_AWAY, 0, count)
      this.#publish(block, count)
    }
  }

  /** A block with a slot that the server has as it is, from `from` on, below `end`. */
  nextUnchanged(from: number, end: number): number | undefined {
    for (let block = from; block < end; block += 1) {
      const entry = this.entries[block] ?? ENTRY_BASE
      if (!hasSlot(entry) || isZeroEntry(entry) || this.isChanged(block)) continue
      if (this.#isWhole(block, entry)) return block
    }
    return undefined
  }

  #isWhole(block: number, entry: number): boolean {
    const whole = this.#wholeMask(block)
    return (entryMask(entry) & whole) === whole
  }

  #lengthOf(block: number): number {
    return Math.min(BLOCK_BYTES, this.#memory.sizeBytes - block * BLOCK_BYTES)
  }

  #markChanged(first: number, count: number): void {
    const changed = this.#changed
    if (changed === undefined) return
    for (let block = first; block < first + count; block += 1) {
      Atomics.or(changed, block >>> 5, 1 << (block & 31))
    }
  }

  #clearChanged(block: number): void {
    if (this.#changed !== undefined) Atomics.and(this.#changed, block >>> 5, ~(1 << (block & 31)))
  }

  #writePiece(offsetBytes: number, bytes: Uint8Array, from: number, length: number): void {
    const first = Math.floor(offsetBytes / BLOCK_BYTES)
    const end = offsetBytes + length
    const count = blockCount(end) - first
    this.#assertHere(first, count, offsetBytes, end)
    const fresh = this.#takeFreshSlots(first, count)
    const changed = this.#makeEntries(first, count, offsetBytes, end)
    try {
      this.#writeData(first, count, bytes, from, offsetBytes, end)
      if (changed && this.#memory.durable) this.#syncData()
      if (changed) this.#publish(first, count)
      this.#markChanged(first, count)
    } catch (cause) {
      // Else the table may still name the slots: they are lost until the cache is opened again.
      if (this.#restoreTable(first, count)) this.#giveBack(fresh)
      throw nbdError('write', cause)
    }
    if (fresh > 0) this.#announceFill()
  }

  /** What is away can be written over as a whole only. */
  #assertHere(first: number, count: number, offsetBytes: number, end: number): void {
    for (const at of [0, count - 1]) {
      if (this.entries[first + at] !== ENTRY_AWAY) continue
      if (maskWithin(first + at, offsetBytes, end) !== this.#wholeMask(first + at)) {
        throw new BlockAway(first + at)
      }
    }
  }

  /** The sectors that a block has: the last one may be shorter. */
  #wholeMask(block: number): number {
    return maskWithin(block, 0, this.#memory.sizeBytes)
  }

  /** Takes a slot for each block of the piece that has none; returns how many. */
  #takeFreshSlots(first: number, count: number): number {
    let fresh = 0
    for (let at = 0; at < count; at += 1) {
      if (!hasSlot(this.entries[first + at] ?? ENTRY_BASE)) fresh += 1
    }
    if (fresh === 0) return 0
    if (!this.#slots.take(this.#freshSlots, fresh)) {
      throw new NbdError(
        constants.errno.ENOSPC,
        `Cannot write ${count} blocks: the write cache is full with ${this.usedBytes} of ${this.limitBytes} bytes`,
      )
    }
    const { headBytes } = this.#memory.data
    const fileSlots = Math.min((this.#freshSlots[fresh - 1] ?? 0) + 1, headBytes / BLOCK_BYTES)
    if (fileSlots > (this.#control[CONTROL_FILE_SLOTS] ?? 0)) {
      this.#control[CONTROL_FILE_SLOTS] = fileSlots
    }
    return fresh
  }

  /** Frees the first fresh slots, and the room of what was written to them: it may be wanted now. */
  #giveBack(fresh: number): void {
    for (let at = 0; at < fresh; at += 1) this.#slots.free(this.#freshSlots[at] ?? 0)
    try {
      this.#cutFile()
    } catch {
      // The room comes back with the next release; what failed first is what is told.
    }
  }

  /** Fills #newEntries; returns whether any differs from what is there. */
  #makeEntries(first: number, count: number, offsetBytes: number, end: number): boolean {
    let changed = false
    let fresh = 0
    for (let at = 0; at < count; at += 1) {
      const old = this.entries[first + at] ?? ENTRY_BASE
      const slot = hasSlot(old) ? entrySlot(old) : (this.#freshSlots[fresh++] ?? 0)
      // What is not written of a block that was zero is written as zeros.
      const kept = old === ENTRY_AWAY ? 0 : writtenMask(old)
      const mask = kept | maskWithin(first + at, offsetBytes, end)
      const entry = makeEntry(slot, mask)
      this.#newEntries[at] = entry
      changed ||= entry !== old
    }
    return changed
  }

  /** Writes the piece to its slots, with one call for each run of slots. */
  #writeData(
    first: number,
    count: number,
    bytes: Uint8Array,
    from: number,
    offsetBytes: number,
    end: number,
  ): void {
    let runAt = 0 // in the data file
    let runFrom = 0 // in bytes
    let runLength = 0
    for (let at = 0; at < count; at += 1) {
      const blockAt = (first + at) * BLOCK_BYTES
      const begin = Math.max(offsetBytes, blockAt)
      const length = Math.min(end, blockAt + BLOCK_BYTES) - begin
      const bytesAt = from + begin - offsetBytes
      const slotAt = entryOffset(this.#newEntries[at] ?? ENTRY_BASE)
      const old = this.entries[first + at] ?? ENTRY_BASE
      const amidZeros = length < BLOCK_BYTES && isZeroEntry(old)
      if (amidZeros) {
        this.#block.fill(0)
        this.#block.set(bytes.subarray(bytesAt, bytesAt + length), begin - blockAt)
        this.#data.write(this.#block, 0, BLOCK_BYTES, slotAt)
        continue
      }
      const fileAt = slotAt + begin - blockAt
      if (runLength > 0 && runAt + runLength === fileAt && runFrom + runLength === bytesAt) {
        runLength += length
        continue
      }
      this.#data.write(bytes, runFrom, runLength, runAt)
      runAt = fileAt
      runFrom = bytesAt
      runLength = length
    }
    this.#data.write(bytes, runFrom, runLength, runAt)
  }

  /** Writes zeros to a part of one block. */
  #writeZeroSectors(begin: number, end: number): void {
    if (end <= begin) return
    if (isZeroEntry(this.entries[Math.floor(begin / BLOCK_BYTES)] ?? ENTRY_BASE)) return
    this.#lock.lock()
    try {
      this.#writePiece(begin, this.#zeros, 0, end - begin)
    } finally {
      this.#lock.unlock()
    }
  }

  /**
   * Makes the blocks zero entries; those never written become `untouched`. Slots stay with them.
   * Returns whether there are any.
   */
  #dropBlocks(first: number, end: number, untouched: number): boolean {
    let pending = false
    for (let block = first; block < end; block += PIECE_BLOCKS) {
      const count = Math.min(end - block, PIECE_BLOCKS)
      this.#lock.lock()
      try {
        let changed = false
        for (let at = 0; at < count; at += 1) {
          const old = this.entries[block + at] ?? ENTRY_BASE
          const entry = droppedEntry(old, untouched)
          this.#newEntries[at] = entry
          changed ||= entry !== old
          pending ||= hasSlot(entry)
        }
        if (changed) this.#publish(block, count)
        if (changed) Atomics.add(this.#control, CONTROL_DROPS, 1)
        if (changed) this.#markChanged(block, count)
      } catch (cause) {
        this.#restoreTable(block, count)
        throw nbdError('write', cause)
      } finally {
        this.#lock.unlock()
      }
    }
    return pending
  }

  /** Writes #newEntries to the table and then shows them to all threads. */
  #publish(first: number, count: number): void {
    for (let at = 0; at < count; at += 1) {
      encodeEntry(this.#table, at * TABLE_ENTRY_BYTES, this.#newEntries[at] ?? ENTRY_BASE)
    }
    const tableAt = TABLE_HEADER_BYTES + first * TABLE_ENTRY_BYTES
    this.#tableFile.write(this.#table, 0, count * TABLE_ENTRY_BYTES, tableAt)
    for (let at = 0; at < count; at += 1) {
      Atomics.store(this.entries, first + at, this.#newEntries[at] ?? ENTRY_BASE)
    }
  }

  /**
   * Puts back what a change that failed has written to the table, so that it says what the shared
   * entries say. Needs no room: only what was written is written again. Returns whether it went well.
   */
  #restoreTable(first: number, count: number): boolean {
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

  /** Overlays one block, or several whose slots lie behind each other; returns how many. */
  #overlayRun(first: number, offsetBytes: number, target: Uint8Array, end: number): number {
    const entry = this.entries[first] ?? ENTRY_BASE
    const begin = Math.max(offsetBytes, first * BLOCK_BYTES)
    let length = Math.min(end, (first + 1) * BLOCK_BYTES) - begin
    if (isZeroEntry(entry)) target.fill(0, begin - offsetBytes, begin - offsetBytes + length)
    else if (entryMask(entry) !== FULL_MASK) this.#overlaySectors(first, entry, offsetBytes, target)
    else {
      let count = 1
      for (; begin + length < end; count += 1) {
        if (this.entries[first + count] !== makeEntry(entrySlot(entry) + count, FULL_MASK)) break
        length += Math.min(BLOCK_BYTES, end - begin - length)
      }
      const from = entryOffset(entry) + begin - first * BLOCK_BYTES
      this.#data.read(target, begin - offsetBytes, length, from)
      return count
    }
    return 1
  }

  #overlaySectors(block: number, entry: number, offsetBytes: number, target: Uint8Array): void {
    const end = offsetBytes + target.length
    const blockAt = block * BLOCK_BYTES
    const mask = entryMask(entry) & maskWithin(block, offsetBytes, end)
    for (let at = 0; at < BLOCK_BYTES; at += SECTOR_BYTES) {
      if ((mask & (1 << (at / SECTOR_BYTES))) === 0) continue
      const targetAt = blockAt + at - offsetBytes
      this.#data.read(target, targetAt, SECTOR_BYTES, entryOffset(entry) + at)
    }
  }

  /** The blocks that lie wholly in the range; the device may end within its last block. */
  #wholeBlocks(offsetBytes: number, lengthBytes: number): { first: number; end: number } {
    const rangeEnd = offsetBytes + lengthBytes
    const first = blockCount(offsetBytes)
    const end =
      rangeEnd === this.#memory.sizeBytes
        ? blockCount(rangeEnd)
        : Math.floor(rangeEnd / BLOCK_BYTES)
    return { first, end: Math.max(first, end) }
  }

  /** Gives the memory behind the last slot in use back. */
  #cutFile(): void {
    const present = this.#control[CONTROL_FILE_SLOTS] ?? 0
    const needed = this.#slots.end(present)
    if (needed === present) return
    ftruncateSync(this.#memory.data.headFd, needed * BLOCK_BYTES)
    this.#control[CONTROL_FILE_SLOTS] = needed
  }

  #announceFill(): void {
    const percent = (this.#slots.taken / this.#usableSlots) * 100
    const present = this.#control[CONTROL_FILL_LEVEL] ?? 0
    const reached = FILL_LEVELS.findLast((level) => percent >= level) ?? 0
    if (reached > present || percent < present - FILL_LEVEL_SLACK) this.#setFillLevel(reached)
  }

  get #usableSlots(): number {
    return this.#memory.slotsMax - this.#memory.slotsReserved
  }

  #syncData(): void {
    const { headFd, headBytes, areaFd } = this.#memory.data
    if (headBytes > 0) fdatasyncSync(headFd)
    if (areaFd >= 0) fdatasyncSync(areaFd)
  }

  #syncTable(): void {
    const { headFd, areaFd } = this.#memory.table
    fdatasyncSync(headFd >= 0 ? headFd : areaFd)
  }

  #tellRoom(): void {
    Atomics.add(this.#control, CONTROL_ROOM, 1)
    Atomics.notify(this.#control, CONTROL_ROOM)
  }

  #setFillLevel(level: FillLevel | 0): void {
    if (Atomics.exchange(this.#control, CONTROL_FILL_LEVEL, level) === level) return
    Atomics.notify(this.#control, CONTROL_FILL_LEVEL)
  }
}

function bytesToPieceEnd(offsetBytes: number): number {
  return PIECE_BLOCKS * BLOCK_BYTES - (offsetBytes % BLOCK_BYTES)
}

/** The sectors of a block that are within the range. */
function maskWithin(block: number, beginBytes: number, endBytes: number): number {
  const blockAt = block * BLOCK_BYTES
  const begin = Math.max(beginBytes - blockAt, 0)
  return sectorMask(begin, Math.min(endBytes - blockAt, BLOCK_BYTES))
}

/** The sectors that do not come from the base. */
function writtenMask(entry: number): number {
  return isZeroEntry(entry) ? FULL_MASK : entryMask(entry)
}

function droppedEntry(old: number, untouched: number): number {
  if (old === ENTRY_BASE) return untouched
  if (old === ENTRY_AWAY) return ENTRY_ZERO
  return hasSlot(old) ? makeEntry(entrySlot(old), ZERO_MASK) : old
}

const NO_BLOCKS: ReadonlySet<number> = new Set()

/** A part of a block was to be written that is on the server: it must be brought back first. */
export class BlockAway extends NbdError {
  readonly block: number
  constructor(block: number) {
    super(constants.errno.EIO, `Cannot write to a part of block ${block}: it is on the server`)
    this.block = block
  }
}

/** Whether a change was refused for want of room: it may be tried again. */
export function isNoRoom(error: unknown): boolean {
  return error instanceof NbdError && error.errno === constants.errno.ENOSPC
}

function nbdError(action: string, cause: unknown): NbdError {
  const full = cause instanceof Error && 'code' in cause && cause.code === 'ENOSPC'
  const errno = full ? constants.errno.ENOSPC : constants.errno.EIO
  const why = cause instanceof Error ? cause.message : String(cause)
  return new NbdError(errno, `Cannot ${action} in the write cache: ${why}`, { cause })
}
