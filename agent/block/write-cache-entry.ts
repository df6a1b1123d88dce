/**
 * What the write cache knows of one block, in one word of shared memory, so that it is read and
 * replaced as a whole: the slot plus one in the upper 24 bits, the mask of written sectors in the
 * lower 8. A mask of zero with a slot field other than zero means that the block reads as zeros; a
 * slot that is named there still belongs to the block, though nothing in it counts. A block without a slot
 * and with a full mask is away: all of it was given to the server.
 */
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'

/** Nothing was written: the block is that of the base version. Also what untouched memory reads as. */
export const ENTRY_BASE = 0

export const ZERO_MASK = 0
export const FULL_MASK = 0xff

const MASK_BITS = 8
const NO_SLOT_FIELD = 0xffffff
/** Reads as zeros and has no slot. */
export const ENTRY_ZERO: number = (NO_SLOT_FIELD << MASK_BITS) | ZERO_MASK

/** All of the block is on the server. */
export const ENTRY_AWAY: number = (NO_SLOT_FIELD << MASK_BITS) | FULL_MASK

/** Slots are numbered in 24 bits less two values: 64 GiB of written data. */
export const SLOTS_MAX: number = NO_SLOT_FIELD - 1

export function makeEntry(slot: number, mask: number): number {
  return ((slot + 1) << MASK_BITS) | mask
}

export function entryMask(entry: number): number {
  return entry & FULL_MASK
}

export function isZeroEntry(entry: number): boolean {
  return entry !== ENTRY_BASE && (entry & FULL_MASK) === ZERO_MASK
}

export function hasSlot(entry: number): boolean {
  return entry !== ENTRY_BASE && entry !== ENTRY_ZERO && entry !== ENTRY_AWAY
}

export function entrySlot(entry: number): number {
  return (entry >>> MASK_BITS) - 1
}

/** Where the entry's slot begins in the data file. */
export function entryOffset(entry: number): number {
  return ((entry >>> MASK_BITS) - 1) * BLOCK_BYTES
}
