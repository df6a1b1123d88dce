/**
 * A leaf of the hash tree: what one span of the vDisk is made of, in order, as extents of zeros and
 * chunks. One content has one encoding:
 *
 *     level u8 = 1, reserved u8 = 0, number of extents u16
 *     per extent u16: bit 15 set for a chunk, bits 0 to 14 its blocks (1 to 4096)
 *     per chunk 32 bytes: its content hash
 *
 * All integers big-endian. The blocks add up to the span; two extents of zeros never follow each other.
 */

import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import { HASH_BYTES } from './content-hash.ts'
import { BLOCK_BYTES, SPAN_BLOCKS } from './tree-shape.ts'

export const LEAF_LEVEL = 1
const HEADER_BYTES = 4
const EXTENT_BYTES = 2
const DATA_BIT = 0x8000
const CHUNK_BLOCKS_MAX: number = CHUNK_BYTES_MAX / BLOCK_BYTES

/** A leaf whose blocks are all chunks of one block is the largest there is. */
export const LEAF_BYTES_MAX: number = HEADER_BYTES + SPAN_BLOCKS * (EXTENT_BYTES + HASH_BYTES)

/** A run of blocks within a span. */
export interface Extent {
  /** Counted from the beginning of the span. */
  readonly firstBlock: number
  readonly blocks: number
  /** Absent for zeros. */
  readonly hash?: Uint8Array
}

export class LeafNode {
  readonly #firstBlocks: Uint16Array
  /** Number of chunks before each extent, and whether it is one itself. */
  readonly #chunkNumbers: Int16Array
  readonly #hashes: Uint8Array
  readonly #blocks: number

  private constructor(
    firstBlocks: Uint16Array,
    chunkNumbers: Int16Array,
    hashes: Uint8Array,
    blocks: number,
  ) {
    this.#firstBlocks = firstBlocks
    this.#chunkNumbers = chunkNumbers
    this.#hashes = hashes
    this.#blocks = blocks
  }

  /** Keeps a view of `bytes`. `blocks` is what the leaf must cover. @throws {BootwireError} MANIFEST_INVALID */
  static decode(bytes: Uint8Array, blocks: number): LeafNode {
    if (bytes.length < HEADER_BYTES) throw invalid('it is too short')
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (view.getUint16(0) !== LEAF_LEVEL << 8) throw invalid('it is no leaf')
    const count = view.getUint16(2)
    const hashesAt = HEADER_BYTES + count * EXTENT_BYTES
    if (bytes.length < hashesAt) throw invalid(`it has no room for ${count} extents`)
    const firstBlocks = new Uint16Array(count)
    const chunkNumbers = new Int16Array(count)
    let chunks = 0
    let block = 0
    let zerosBefore = false
    for (let at = 0; at < count; at += 1) {
      const word = view.getUint16(HEADER_BYTES + at * EXTENT_BYTES)
      const isData = (word & DATA_BIT) !== 0
      const length = word & ~DATA_BIT
      if (length === 0) throw invalid('an extent has no blocks')
      if (isData && length > CHUNK_BLOCKS_MAX) throw invalid(`a chunk has ${length} blocks`)
      if (!isData && zerosBefore) throw invalid('zeros follow zeros')
      firstBlocks[at] = block
      chunkNumbers[at] = isData ? chunks : -1
      if (isData) chunks += 1
      zerosBefore = !isData
      block += length
      if (block > blocks) throw invalid(`it covers more than ${blocks} blocks`)
    }
    if (block !== blocks) throw invalid(`it covers ${block} blocks, expected ${blocks}`)
    if (bytes.length !== hashesAt + chunks * HASH_BYTES) {
      throw invalid(`it has ${bytes.length} bytes for ${chunks} chunks`)
    }
    return new LeafNode(firstBlocks, chunkNumbers, bytes.subarray(hashesAt), blocks)
  }

  get extentCount(): number {
    return this.#firstBlocks.length
  }

  extent(index: number): Extent {
    const firstBlock = this.#firstBlocks[index]
    const chunk = this.#chunkNumbers[index]
    invariant(firstBlock !== undefined && chunk !== undefined, `extent ${index}`)
    const blocks = (this.#firstBlocks[index + 1] ?? this.#blocks) - firstBlock
    if (chunk < 0) return { firstBlock, blocks }
    const hash = this.#hashes.subarray(chunk * HASH_BYTES, (chunk + 1) * HASH_BYTES)
    return { firstBlock, blocks, hash }
  }

  /** Index of the extent that covers a block of the span. */
  indexAt(block: number): number {
    invariant(block >= 0 && block < this.#blocks, `block ${block} of ${this.#blocks}`)
    let low = 0
    let high = this.#firstBlocks.length
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if ((this.#firstBlocks[middle] ?? 0) <= block) low = middle
      else high = middle
    }
    return low
  }
}

/** Encodes extents that follow one another from block 0 on. */
export function encodeLeaf(extents: readonly Omit<Extent, 'firstBlock'>[]): Uint8Array {
  const chunks = extents.filter(({ hash }) => hash !== undefined).length
  const hashesAt = HEADER_BYTES + extents.length * EXTENT_BYTES
  const bytes = new Uint8Array(hashesAt + chunks * HASH_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, LEAF_LEVEL << 8)
  view.setUint16(2, extents.length)
  let hashAt = hashesAt
  for (const [index, { blocks, hash }] of extents.entries()) {
    const word = hash === undefined ? blocks : blocks | DATA_BIT
    view.setUint16(HEADER_BYTES + index * EXTENT_BYTES, word)
    if (hash === undefined) continue
    bytes.set(hash, hashAt)
    hashAt += HASH_BYTES
  }
  return bytes
}

function invalid(why: string): BootwireError {
  return new BootwireError('MANIFEST_INVALID', `Cannot use a leaf of the manifest: ${why}`)
}
