/**
 * The blocks of a write cache as who gives them to a server sees them: which were changed, what is in them,
 * and which may give their slots up since the server has them. Main thread only; workers write meanwhile, and
 * mark what they change.
 */
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { SECTOR_BYTES } from './block-size.ts'
import { nbdError, PIECE_BLOCKS, WriteCacheCore } from './write-cache-core.ts'
import {
  ENTRY_AWAY,
  ENTRY_BASE,
  ENTRY_ZERO,
  entryMask,
  entryOffset,
  entrySlot,
  hasSlot,
  isZeroEntry,
  makeEntry,
} from './write-cache-entry.ts'

export class ServerBlocks extends WriteCacheCore {
  /** The first changed block from `from` on, below `end`; undefined when there is none. */
  nextChanged(from: number, end: number): number | undefined {
    const changed = this.changed
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
    return ((this.changed?.[block >>> 5] ?? 0) & (1 << (block & 31))) !== 0
  }

  /** What was taken was lost on its way. */
  markChanged(block: number): void {
    this.noteChanged(block, 1)
  }

  /**
   * Takes a changed block, which is as if unchanged then: copies its bytes, where it has all of them.
   * `part` is one of which the base has the rest: it stays changed, `complete` it.
   */
  take(block: number, target: Uint8Array): 'data' | 'zero' | 'part' | 'nothing' {
    this.lock.lock()
    try {
      const entry = this.entries[block] ?? ENTRY_BASE
      const isPart = hasSlot(entry) && !isZeroEntry(entry) && !this.#isWhole(block, entry)
      if (isPart) return 'part'
      this.#clearChanged(block)
      if (isZeroEntry(entry)) return 'zero'
      if (!hasSlot(entry)) return 'nothing'
      const length = this.#lengthOf(block)
      target.fill(0, length)
      this.data.read(target, 0, length, entryOffset(entry))
      return 'data'
    } catch (cause) {
      this.noteChanged(block, 1)
      throw nbdError('read', cause)
    } finally {
      this.lock.unlock()
    }
  }

  /** Puts the base's bytes into a block of which a part was written. */
  complete(block: number, base: Uint8Array): void {
    this.lock.lock()
    try {
      const entry = this.entries[block] ?? ENTRY_BASE
      if (!hasSlot(entry) || isZeroEntry(entry) || this.#isWhole(block, entry)) return
      const length = this.#lengthOf(block)
      for (let at = 0; at < length; at += SECTOR_BYTES) {
        if ((entryMask(entry) & (1 << (at / SECTOR_BYTES))) !== 0) continue
        this.data.write(base, at, SECTOR_BYTES, entryOffset(entry) + at)
      }
      if (this.memory.durable) this.syncData()
      this.newEntries[0] = makeEntry(entrySlot(entry), this.wholeMask(block))
      this.publish(block, 1)
    } catch (cause) {
      throw nbdError('write', cause)
    } finally {
      this.lock.unlock()
    }
  }

  /**
   * Gives the room of a block up that the server has, unless it was changed since it was taken. Its slot is
   * to be freed once no reader can be at it (`freeSlot`). Returns it; undefined when nothing was given up.
   */
  giveAway(block: number): number | undefined {
    this.lock.lock()
    try {
      const entry = this.entries[block] ?? ENTRY_BASE
      if (this.isChanged(block) || !hasSlot(entry) || isZeroEntry(entry)) return undefined
      if (!this.#isWhole(block, entry)) return undefined
      this.newEntries[0] = ENTRY_AWAY
      this.publish(block, 1)
      return entrySlot(entry)
    } catch (cause) {
      throw nbdError('write', cause)
    } finally {
      this.lock.unlock()
    }
  }

  freeSlots(slots: readonly number[]): void {
    this.lock.lock()
    try {
      if (this.memory.durable) this.syncTable()
      for (const slot of slots) this.slots.free(slot)
      this.cutFile()
      this.announceFill()
    } finally {
      this.lock.unlock()
    }
    this.tellRoom()
  }

  /** A block that is away is here again, unless something else was written meanwhile. @throws ENOSPC */
  bringBack(block: number, bytes: Uint8Array): void {
    this.lock.lock()
    try {
      if (this.entries[block] !== ENTRY_AWAY) return
      const fresh = this.takeFreshSlots(block, 1)
      try {
        const entry = makeEntry(this.freshSlots[0] ?? 0, this.wholeMask(block))
        this.data.write(bytes, 0, this.#lengthOf(block), entryOffset(entry))
        if (this.memory.durable) this.syncData()
        this.newEntries[0] = entry
        this.publish(block, 1)
      } catch (cause) {
        if (this.restoreTable(block, 1)) this.giveBack(fresh)
        throw nbdError('write', cause)
      }
    } finally {
      this.lock.unlock()
    }
  }

  /** What an earlier boot has left on the server. Call before anything is read or written. */
  adopt(firstBlock: number, blocks: number, isZero: boolean): void {
    const end = Math.min(firstBlock + blocks, this.entries.length)
    for (let block = firstBlock; block < end; block += PIECE_BLOCKS) {
      const count = Math.min(end - block, PIECE_BLOCKS)
      this.newEntries.fill(isZero ? ENTRY_ZERO : ENTRY_AWAY, 0, count)
      this.publish(block, count)
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
    const whole = this.wholeMask(block)
    return (entryMask(entry) & whole) === whole
  }

  #lengthOf(block: number): number {
    return Math.min(BLOCK_BYTES, this.memory.sizeBytes - block * BLOCK_BYTES)
  }

  #clearChanged(block: number): void {
    if (this.changed !== undefined) Atomics.and(this.changed, block >>> 5, ~(1 << (block & 31)))
  }
}
