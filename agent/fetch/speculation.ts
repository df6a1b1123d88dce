/**
 * Chunks that are asked for together with their leaf, named by one of their blocks: a server answers in
 * the order of the requests, so that the leaf is here when the chunk comes, and can prove it.
 */
import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { BLOCK_BYTES, nodeOver } from '#shared/manifest/tree-shape.ts'
import { CHUNK_LEVEL, type ObjectHeader, PRIORITY } from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import type { RamTier } from '../ram-tier/ram-tier.ts'
import { createFetch, type ObjectFetch } from './object-fetch.ts'
import type { ObjectFetches } from './object-fetches.ts'
import type { PushGrants } from './push-grants.ts'
import type { RequestBook } from './request-book.ts'
import type { VersionTree } from './version-tree.ts'

const CHUNK_BLOCKS_MAX = CHUNK_BYTES_MAX / BLOCK_BYTES

export interface SpeculationParts {
  readonly tree: VersionTree
  readonly tier: RamTier
  readonly fetches: ObjectFetches
  readonly grants: PushGrants
  readonly book: RequestBook
}

export class Speculation {
  readonly #parts: SpeculationParts
  /** By the block they are named by. */
  readonly #fetches = new Map<number, ObjectFetch>()

  constructor(parts: SpeculationParts) {
    this.#parts = parts
  }

  /** Asks for the chunk over a block, unless something on its way may be that. */
  begin(block: number): void {
    const { fetches, grants } = this.#parts
    if (fetches.isWanted(CHUNK_LEVEL, block) || this.#isBegunNear(block)) return
    if (grants.has(CHUNK_LEVEL, block)) return
    const fetch = createFetch({ level: CHUNK_LEVEL, position: block }, PRIORITY.demand)
    this.#fetches.set(block, fetch)
    fetches.beginAsking(fetch)
  }

  /** The leaf is here: its chunks get their own names. */
  resolve(leaf: number): void {
    const { tree, tier, fetches, book } = this.#parts
    for (const [block, fetch] of this.#fetches) {
      if (nodeOver(block, LEAF_LEVEL) !== leaf) continue
      this.#fetches.delete(block)
      const place = tree.find(block)
      if (place.kind === 'chunk') book.rename(block, place.firstBlock)
      const isNeeded =
        place.kind === 'chunk' &&
        !tier.has(place.firstBlock) &&
        (place.firstBlock === block || !fetches.isWanted(CHUNK_LEVEL, place.firstBlock))
      if (isNeeded) fetches.rename(fetch, place)
      else fetches.end(fetch)
    }
  }

  /** A chunk came before its leaf, which came wrong: it will be asked for together with that again. */
  forget({ position, rawBytes }: ObjectHeader): void {
    const end = position + Math.max(1, Math.ceil(rawBytes / BLOCK_BYTES))
    for (const [block, fetch] of this.#fetches) {
      if (block < position || block >= end) continue
      this.#fetches.delete(block)
      this.#parts.fetches.end(fetch)
    }
  }

  /** Whether a chunk was asked for that may be the one of this block: none reaches across a span. */
  #isBegunNear(block: number): boolean {
    for (const other of this.#fetches.keys()) {
      const isOfSpan = nodeOver(other, LEAF_LEVEL) === nodeOver(block, LEAF_LEVEL)
      if (isOfSpan && Math.abs(other - block) < CHUNK_BLOCKS_MAX) return true
    }
    return false
  }
}
