/**
 * Cuts a span of a vDisk into extents of zeros and chunks, by content alone, so that data that moved
 * is cut the same way again. Cuts lie on the grid of 4 KiB blocks: behind a block whose CRC-32 is
 * small, rarely as long as the chunk is short and often behind that (*even grid*). Measured against
 * byte-wise cuts and others in test/bench/README.md, "chunking".
 */
import { crc32 } from 'node:zlib'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'

export interface CutParameters {
  /** Blocks a chunk has at least, unless zeros or the span's end come first. */
  readonly minBlocks: number
  /** Up to this length a block ends the chunk rarely, once in `rareOneIn`… */
  readonly rareUntilBlocks: number
  readonly rareOneIn: number
  /** … and behind it once in `oneIn`. */
  readonly oneIn: number
  readonly maxBlocks: number
  /** As many zero blocks are an extent of their own; fewer stay in their chunk. */
  readonly zeroRunBlocks: number
}

/** Mean of 36 KiB. */
export const EVEN_GRID: CutParameters = {
  minBlocks: 2,
  rareUntilBlocks: 8,
  rareOneIn: 16,
  oneIn: 4,
  maxBlocks: 32,
  zeroRunBlocks: 4,
}

export interface CutExtent {
  /** Counted from the beginning of the span. */
  readonly firstBlock: number
  readonly blocks: number
  readonly isZero: boolean
}

const TWO_TO_32 = 2 ** 32
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES)

/**
 * `span` is a whole span, or the last of a vDisk, whose last block may be shorter. Zeros that touch an
 * end of the span are an extent of their own whatever their length.
 */
export function cutSpan(span: Uint8Array, parameters: CutParameters): CutExtent[] {
  const extents: CutExtent[] = []
  const blocks = Math.ceil(span.length / BLOCK_BYTES)
  for (let block = 0; block < blocks; ) {
    const zeros = zeroBlocksFrom(span, block, blocks)
    const isRun = zeros >= parameters.zeroRunBlocks || block === 0 || block + zeros === blocks
    if (zeros > 0 && isRun) {
      extents.push({ firstBlock: block, blocks: zeros, isZero: true })
      block += zeros
      continue
    }
    const end = dataEnd(span, block, blocks, parameters.zeroRunBlocks)
    while (block < end) {
      const length = chunkBlocks(span, block, end, parameters)
      extents.push({ firstBlock: block, blocks: length, isZero: false })
      block += length
    }
  }
  return extents
}

function zeroBlocksFrom(span: Uint8Array, from: number, end: number): number {
  let block = from
  while (block < end && isZeroBlock(span, block)) block += 1
  return block - from
}

/** Returns where the data that begins at `from` ends: at the next run of zeros, or the span's end. */
function dataEnd(span: Uint8Array, from: number, end: number, zeroRunBlocks: number): number {
  for (let block = from; block < end; ) {
    const zeros = zeroBlocksFrom(span, block, end)
    if (zeros >= zeroRunBlocks || (zeros > 0 && block + zeros === end)) return block
    block += zeros + 1
  }
  return end
}

function chunkBlocks(span: Uint8Array, from: number, end: number, cut: CutParameters): number {
  const last = Math.min(from + cut.maxBlocks, end)
  for (let block = from + cut.minBlocks - 1; block < last; block += 1) {
    const length = block + 1 - from
    const oneIn = length < cut.rareUntilBlocks ? cut.rareOneIn : cut.oneIn
    if (crc32(blockOf(span, block)) < TWO_TO_32 / oneIn) return length
  }
  return last - from
}

function isZeroBlock(span: Uint8Array, block: number): boolean {
  // Most blocks differ in their first byte: look before making a view and comparing all of it.
  if (span[block * BLOCK_BYTES] !== 0) return false
  const bytes = blockOf(span, block)
  return ZERO_BLOCK.compare(bytes, 0, bytes.length, 0, bytes.length) === 0
}

function blockOf(span: Uint8Array, block: number): Uint8Array {
  return span.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
}
