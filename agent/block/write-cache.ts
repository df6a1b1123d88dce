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

import { constants } from 'node:os'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { NbdError } from '../node-nbd/block-device.ts'
import { EXTENT_BYTES } from '../write-area/area-layout.ts'
import { blockCount, SECTOR_BYTES } from './block-size.ts'
import { maskWithin, nbdError, PIECE_BLOCKS, WriteCacheCore } from './write-cache-core.ts'
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
import { CONTROL_DROPS, CONTROL_ROOM } from './write-cache-files.ts'

const EXTENT_SLOTS = EXTENT_BYTES / BLOCK_BYTES

const NO_BLOCKS: ReadonlySet<number> = new Set()

export class WriteCache extends WriteCacheCore {
  // Scratch of one change, so that none allocates.
  readonly #block = Buffer.alloc(BLOCK_BYTES)
  readonly #zeros = Buffer.alloc(BLOCK_BYTES)

  /** Counts on when there is more room than before. Look before trying what may find none. */
  get roomMade(): number {
    return Atomics.load(this.control, CONTROL_ROOM)
  }

  /** Settles when `roomMade` is no longer what was seen, or after `patienceMs`. */
  async untilRoom(seen: number, patienceMs: number): Promise<void> {
    await Atomics.waitAsync(this.control, CONTROL_ROOM, seen, patienceMs).value
  }

  /** Another extent of the area, durably this cache's, is there for slots. */
  addExtent(extent: number): void {
    const { headBytes } = this.memory.data
    const headSlots = headBytes / BLOCK_BYTES
    this.lock.lock()
    try {
      const present = this.slots.limit - headSlots
      this.data.addExtent(present / EXTENT_SLOTS, extent)
      this.slots.raiseLimit(Math.min(this.slots.limit + EXTENT_SLOTS, this.memory.slotsMax))
    } finally {
      this.lock.unlock()
    }
    this.tellRoom()
  }

  /** The system goes down: what was kept for that may be used. */
  openReserve(): void {
    this.slots.openReserve()
    this.tellRoom()
  }

  /** Nothing more can be had, and somebody waits for it. */
  announceFull(): void {
    this.setFillLevel(100)
  }

  /**
   * Writes whole sectors within the device; with `fua`, returns after they are durable.
   * @throws {NbdError} ENOSPC when there is no room, EIO; a part may have been written
   */
  write(offsetBytes: number, bytes: Uint8Array, fua: boolean): void {
    for (let done = 0; done < bytes.length; ) {
      const length = Math.min(bytes.length - done, bytesToPieceEnd(offsetBytes + done))
      this.lock.lock()
      try {
        this.#writePiece(offsetBytes + done, bytes, done, length)
      } finally {
        this.lock.unlock()
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
    return Atomics.load(this.control, CONTROL_DROPS)
  }

  /**
   * Frees the slots of zero blocks in the range. Call when no other thread can still read what was
   * dropped before there were `drops`. Returns false, and frees nothing, when there are more now.
   */
  releaseZeroed(offsetBytes: number, lengthBytes: number, drops: number): boolean {
    const { first, end } = this.#wholeBlocks(offsetBytes, lengthBytes)
    this.lock.lock()
    try {
      if (this.drops !== drops) return false
      if (this.memory.durable) this.syncTable()
      for (let block = first; block < end; block += 1) {
        const entry = this.entries[block] ?? ENTRY_BASE
        if (!isZeroEntry(entry) || !hasSlot(entry)) continue
        this.entries[block] = ENTRY_ZERO
        this.slots.free(entrySlot(entry))
      }
      this.cutFile()
      this.announceFill()
      this.tellRoom()
      return true
    } catch (cause) {
      throw nbdError('free', cause)
    } finally {
      this.lock.unlock()
    }
  }

  /** Returns after everything written so far is durable; at once on a medium that never is. */
  flush(): void {
    if (!this.memory.durable) return
    try {
      this.syncData()
      this.syncTable()
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
    this.lock.lock()
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
      this.lock.unlock()
    }
  }

  #writePiece(offsetBytes: number, bytes: Uint8Array, from: number, length: number): void {
    const first = Math.floor(offsetBytes / BLOCK_BYTES)
    const end = offsetBytes + length
    const count = blockCount(end) - first
    this.#assertHere(first, count, offsetBytes, end)
    const fresh = this.takeFreshSlots(first, count)
    const changed = this.#makeEntries(first, count, offsetBytes, end)
    try {
      this.noteChanged(first, count)
      this.#writeData(first, count, bytes, from, offsetBytes, end)
      if (changed && this.memory.durable) this.syncData()
      if (changed) this.publish(first, count)
    } catch (cause) {
      // Else the table may still name the slots: they are lost until the cache is opened again.
      if (this.restoreTable(first, count)) this.giveBack(fresh)
      throw nbdError('write', cause)
    }
    if (fresh > 0) this.announceFill()
  }

  /** What is away can be written over as a whole only. */
  #assertHere(first: number, count: number, offsetBytes: number, end: number): void {
    for (const at of [0, count - 1]) {
      if (this.entries[first + at] !== ENTRY_AWAY) continue
      if (maskWithin(first + at, offsetBytes, end) !== this.wholeMask(first + at)) {
        throw new BlockAway(first + at)
      }
    }
  }

  /** Fills #newEntries; returns whether any differs from what is there. */
  #makeEntries(first: number, count: number, offsetBytes: number, end: number): boolean {
    let changed = false
    let fresh = 0
    for (let at = 0; at < count; at += 1) {
      const old = this.entries[first + at] ?? ENTRY_BASE
      const slot = hasSlot(old) ? entrySlot(old) : (this.freshSlots[fresh++] ?? 0)
      // What is not written of a block that was zero is written as zeros.
      const kept = old === ENTRY_AWAY ? 0 : writtenMask(old)
      const mask = kept | maskWithin(first + at, offsetBytes, end)
      const entry = makeEntry(slot, mask)
      this.newEntries[at] = entry
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
      const slotAt = entryOffset(this.newEntries[at] ?? ENTRY_BASE)
      const old = this.entries[first + at] ?? ENTRY_BASE
      const amidZeros = length < BLOCK_BYTES && isZeroEntry(old)
      if (amidZeros) {
        this.#block.fill(0)
        this.#block.set(bytes.subarray(bytesAt, bytesAt + length), begin - blockAt)
        this.data.write(this.#block, 0, BLOCK_BYTES, slotAt)
        continue
      }
      const fileAt = slotAt + begin - blockAt
      if (runLength > 0 && runAt + runLength === fileAt && runFrom + runLength === bytesAt) {
        runLength += length
        continue
      }
      this.data.write(bytes, runFrom, runLength, runAt)
      runAt = fileAt
      runFrom = bytesAt
      runLength = length
    }
    this.data.write(bytes, runFrom, runLength, runAt)
  }

  /** Writes zeros to a part of one block. */
  #writeZeroSectors(begin: number, end: number): void {
    if (end <= begin) return
    if (isZeroEntry(this.entries[Math.floor(begin / BLOCK_BYTES)] ?? ENTRY_BASE)) return
    this.lock.lock()
    try {
      this.#writePiece(begin, this.#zeros, 0, end - begin)
    } finally {
      this.lock.unlock()
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
      this.lock.lock()
      try {
        let changed = false
        for (let at = 0; at < count; at += 1) {
          const old = this.entries[block + at] ?? ENTRY_BASE
          const entry = droppedEntry(old, untouched)
          this.newEntries[at] = entry
          changed ||= entry !== old
          pending ||= hasSlot(entry)
        }
        if (changed) this.publish(block, count)
        if (changed) Atomics.add(this.control, CONTROL_DROPS, 1)
        if (changed) this.noteChanged(block, count)
      } catch (cause) {
        this.restoreTable(block, count)
        throw nbdError('write', cause)
      } finally {
        this.lock.unlock()
      }
    }
    return pending
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
      this.data.read(target, begin - offsetBytes, length, from)
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
      this.data.read(target, targetAt, SECTOR_BYTES, entryOffset(entry) + at)
    }
  }

  /** The blocks that lie wholly in the range; the device may end within its last block. */
  #wholeBlocks(offsetBytes: number, lengthBytes: number): { first: number; end: number } {
    const rangeEnd = offsetBytes + lengthBytes
    const first = blockCount(offsetBytes)
    const end =
      rangeEnd === this.memory.sizeBytes ? blockCount(rangeEnd) : Math.floor(rangeEnd / BLOCK_BYTES)
    return { first, end: Math.max(first, end) }
  }
}

function bytesToPieceEnd(offsetBytes: number): number {
  return PIECE_BLOCKS * BLOCK_BYTES - (offsetBytes % BLOCK_BYTES)
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
