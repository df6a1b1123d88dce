/**
 * The manifest of the open version as far as it is known here: nodes of its hash tree, each proven by
 * the hash in its parent, the root node by the signed root. Nothing else gets in, so what `find` says
 * is what the server's key has signed.
 *
 * Inner nodes are kept: those of 8 TiB have 16 MiB. Of the leaves the ones used last are kept, in as
 * many bytes as they came in; a leaf that was dropped is fetched again.
 */
import { BootwireError } from '#shared/errors.ts'
import { contentHash, isZeroHash, ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { encodeInner, InnerNode } from '#shared/manifest/inner-node.ts'
import { type Extent, encodeLeaf, LEAF_LEVEL, LeafNode } from '#shared/manifest/leaf-node.ts'
import {
  blocksUnder,
  childCount,
  FAN_OUT,
  leafBlocks,
  nodeOver,
  nodesAt,
  SPAN_BLOCKS,
  treeLevels,
  vdiskBlocks,
} from '#shared/manifest/tree-shape.ts'
import type { VersionRoot } from '#shared/manifest/version-root.ts'
import { MiB } from '#shared/units.ts'

/** Leaves of mean chunks over 17 GB; a boot reads from some 200 spans, whose leaves have 3 MB. */
const LEAF_MEMORY_BYTES_MAX: number = 16 * MiB

/** Besides its bytes: its objects, and four bytes per extent. */
const LEAF_OVERHEAD_BYTES = 256
const EXTENT_OVERHEAD_BYTES = 4

/** A chunk in its place on the vDisk. */
export interface ChunkPlace {
  readonly firstBlock: number
  readonly blocks: number
  readonly hash: Uint8Array
}

/** What a block is part of. */
export type Place =
  | ({ readonly kind: 'chunk' } & ChunkPlace)
  | { readonly kind: 'zeros'; readonly firstBlock: number; readonly blocks: number }
  /** The topmost node on the way that is not here. */
  | ({ readonly kind: 'unknown' } & UnknownNode)

export interface UnknownNode {
  readonly level: number
  readonly position: number
  /** What its parent says of it. */
  readonly hash: Uint8Array
}

export class VersionTree {
  readonly sizeBytes: number
  readonly blocks: number
  /** Level of the root node. */
  readonly levels: number
  readonly #rootHash: Uint8Array
  readonly #leafMemoryBytesMax: number
  readonly #innerNodes = new Map<number, InnerNode>()
  /** The one used last is the last. */
  readonly #leaves = new Map<number, LeafNode>()
  readonly #leafMemoryBytes = new Map<number, number>()
  #leafMemoryBytesTotal = 0
  #lastUsed = -1

  /** `leafMemoryBytesMax` is only given by tests. */
  constructor(
    { sizeBytes, rootHash }: Pick<VersionRoot, 'sizeBytes' | 'rootHash'>,
    leafMemoryBytesMax: number = LEAF_MEMORY_BYTES_MAX,
  ) {
    this.sizeBytes = sizeBytes
    this.blocks = vdiskBlocks(sizeBytes)
    this.levels = treeLevels(sizeBytes)
    this.#rootHash = rootHash
    this.#leafMemoryBytesMax = leafMemoryBytesMax
  }

  get leafCount(): number {
    return nodesAt(this.sizeBytes, LEAF_LEVEL)
  }

  /** Says what a block of the vDisk is part of. */
  find(block: number): Place {
    const position = nodeOver(block, LEAF_LEVEL)
    const leaf = this.#useLeaf(position)
    if (leaf === undefined) return this.#findAbove(position)
    const begin = position * SPAN_BLOCKS
    return placed(leaf.extent(leaf.indexAt(block - begin)), begin)
  }

  /** A leaf that is here. */
  leaf(position: number): LeafNode | undefined {
    return this.#useLeaf(position)
  }

  has(level: number, position: number): boolean {
    return level === LEAF_LEVEL
      ? this.#leaves.has(position)
      : this.#innerNodes.has(innerKey(level, position))
  }

  /**
   * The hash that proves a node: of its parent, if that is here. `zeros` when everything below it is
   * zero, so that there is no such node; undefined when it is not known.
   */
  hashOf(level: number, position: number): Uint8Array | 'zeros' | undefined {
    if (level > this.levels || position >= nodesAt(this.sizeBytes, level)) return 'zeros'
    if (isZeroHash(this.#rootHash)) return 'zeros'
    if (level === this.levels) return this.#rootHash
    const parentPosition = Math.floor(position / FAN_OUT)
    const parent = this.#innerNodes.get(innerKey(level + 1, parentPosition))
    if (parent !== undefined) return parent.child(position % FAN_OUT) ?? 'zeros'
    return this.hashOf(level + 1, parentPosition) === 'zeros' ? 'zeros' : undefined
  }

  /**
   * Takes a node whose parent is here; copies the bytes.
   * @throws {BootwireError} MANIFEST_INVALID when it is not the one its parent speaks of
   */
  accept(level: number, position: number, bytes: Uint8Array): void {
    const expected = this.hashOf(level, position)
    if (expected === undefined || expected === 'zeros') {
      throw invalid(level, position, 'there is no such node')
    }
    if (Buffer.compare(contentHash(bytes), expected) !== 0) {
      throw invalid(level, position, 'its hash is not the one its parent says')
    }
    // The server has signed it: were it nonsense now, its shape says so.
    if (level === LEAF_LEVEL) return this.#keepLeaf(position, Uint8Array.from(bytes))
    const children = childCount(this.sizeBytes, level, position)
    const node = InnerNode.decode(Uint8Array.from(bytes), level, children)
    this.#innerNodes.set(innerKey(level, position), node)
  }

  /** A node that is here, as it was before it was encoded. */
  encoded(level: number, position: number): Uint8Array | undefined {
    if (level === LEAF_LEVEL) {
      const leaf = this.#leaves.get(position)
      if (leaf === undefined) return undefined
      return encodeLeaf(Array.from({ length: leaf.extentCount }, (_, index) => leaf.extent(index)))
    }
    const node = this.#innerNodes.get(innerKey(level, position))
    if (node === undefined) return undefined
    const children = childCount(this.sizeBytes, level, position)
    const hashes = Array.from({ length: children }, (_, index) => node.child(index) ?? ZERO_HASH)
    return encodeInner(level, hashes)
  }

  /** `position` is that of a leaf which is not here. */
  #findAbove(position: number): Place {
    for (let level = this.levels; level >= LEAF_LEVEL; level -= 1) {
      const at = nodeOver(position * SPAN_BLOCKS, level)
      const hash = this.hashOf(level, at)
      if (hash === 'zeros' || hash === undefined) return this.#zeros(level, at)
      if (!this.has(level, at)) return { kind: 'unknown', level, position: at, hash }
    }
    throw new Error(`leaf ${position} is here and was not found`)
  }

  #zeros(level: number, position: number): Place {
    const firstBlock = position * blocksUnder(level)
    const blocks = Math.min(blocksUnder(level), this.blocks - firstBlock)
    return { kind: 'zeros', firstBlock, blocks }
  }

  #useLeaf(position: number): LeafNode | undefined {
    const leaf = this.#leaves.get(position)
    if (leaf === undefined || position === this.#lastUsed) return leaf
    this.#leaves.delete(position)
    this.#leaves.set(position, leaf)
    this.#lastUsed = position
    return leaf
  }

  #keepLeaf(position: number, bytes: Uint8Array): void {
    const leaf = LeafNode.decode(bytes, leafBlocks(this.sizeBytes, position))
    const memoryBytes =
      bytes.length + leaf.extentCount * EXTENT_OVERHEAD_BYTES + LEAF_OVERHEAD_BYTES
    this.#dropLeaf(position)
    this.#leaves.set(position, leaf)
    this.#leafMemoryBytes.set(position, memoryBytes)
    this.#leafMemoryBytesTotal += memoryBytes
    this.#lastUsed = position
    for (const oldest of this.#leaves.keys()) {
      if (this.#leafMemoryBytesTotal <= this.#leafMemoryBytesMax || oldest === position) return
      this.#dropLeaf(oldest)
    }
  }

  #dropLeaf(position: number): void {
    this.#leafMemoryBytesTotal -= this.#leafMemoryBytes.get(position) ?? 0
    this.#leafMemoryBytes.delete(position)
    this.#leaves.delete(position)
  }
}

function placed({ firstBlock, blocks, hash }: Extent, begin: number): Place {
  const at = { firstBlock: begin + firstBlock, blocks }
  return hash === undefined ? { kind: 'zeros', ...at } : { kind: 'chunk', ...at, hash }
}

function innerKey(level: number, position: number): number {
  return level * 2 ** 32 + position
}

function invalid(level: number, position: number, why: string): BootwireError {
  return new BootwireError(
    'MANIFEST_INVALID',
    `Cannot use node ${level}/${position} of the manifest: ${why}`,
  )
}
