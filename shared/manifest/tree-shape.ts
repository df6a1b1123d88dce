/**
 * The shape of a version's hash tree, which its size alone decides. Level 0 holds the chunks, named by
 * the first block they cover; level 1 the leaves, each over a *span* of the vDisk; every level above
 * has a node for `FAN_OUT` nodes below it, up to the one root node. Pure arithmetic.
 */
import { invariant } from '#shared/invariant.ts'
import { KiB } from '#shared/units.ts'

/** The unit of everything: a page of the client's kernel, a block of most file systems. */
export const BLOCK_BYTES: number = 4 * KiB

/**
 * Blocks under one leaf, 16 MiB. No chunk reaches across, so a leaf is found by division and the same
 * part of two versions has the same leaf. A leaf of mean chunks has 15 KB.
 */
export const SPAN_BLOCKS = 4096

/** Children of an inner node, whose hashes are 8 KiB. */
export const FAN_OUT = 256

/** Blocks are numbered by 32 bits: 16 TiB. */
export const VDISK_BLOCKS_MAX: number = 2 ** 32
export const VDISK_BYTES_MAX: number = VDISK_BLOCKS_MAX * BLOCK_BYTES

/** A tree over 16 TiB has 1,048,576 leaves: levels 1 to 4. */
export const LEVEL_MAX = 4

/** Blocks of a vDisk; the last may be shorter. */
export function vdiskBlocks(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK_BYTES)
}

/** Number of the tree's levels above the chunks: the level of the root node, 1 to LEVEL_MAX. */
export function treeLevels(sizeBytes: number): number {
  let level = 1
  while (nodesAt(sizeBytes, level) > 1) level += 1
  return level
}

/** Number of nodes of a level, 1 for leaves. */
export function nodesAt(sizeBytes: number, level: number): number {
  return Math.max(1, Math.ceil(vdiskBlocks(sizeBytes) / blocksUnder(level)))
}

/** Blocks that one node of a level covers, unless the vDisk ends before. */
export function blocksUnder(level: number): number {
  return SPAN_BLOCKS * FAN_OUT ** (level - 1)
}

/** Position, in its level, of the node that covers a block. */
export function nodeOver(block: number, level: number): number {
  return Math.floor(block / blocksUnder(level))
}

/** Blocks that a leaf covers: a span, or what is left of the vDisk. */
export function leafBlocks(sizeBytes: number, position: number): number {
  const blocks = Math.min(SPAN_BLOCKS, vdiskBlocks(sizeBytes) - position * SPAN_BLOCKS)
  invariant(blocks > 0, `leaf ${position} of a vDisk of ${sizeBytes} bytes`)
  return blocks
}

/** Children of an inner node (level 2 and above). */
export function childCount(sizeBytes: number, level: number, position: number): number {
  const count = Math.min(FAN_OUT, nodesAt(sizeBytes, level - 1) - position * FAN_OUT)
  invariant(level > 1 && count > 0, `node ${level}/${position} of a vDisk of ${sizeBytes} bytes`)
  return count
}

/** Bytes that a run of blocks holds: less than its blocks only at the end of the vDisk. */
export function bytesOfBlocks(sizeBytes: number, firstBlock: number, blocks: number): number {
  return Math.min(blocks * BLOCK_BYTES, sizeBytes - firstBlock * BLOCK_BYTES)
}
