/** Blocks that somebody waits for: finds the chunks they are in, and has those fetched. */
import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { nodeOver, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { CHUNK_LEVEL, PRIORITY } from '#shared/wire/frame.ts'
import type { DiskCache } from '../disk-cache/disk-cache.ts'
import type { RamTier } from '../ram-tier/ram-tier.ts'
import { type BlockWait, tell } from './block-wait.ts'
import type { FirstRead } from './boot-recorder.ts'
import type { LeafPaths } from './leaf-paths.ts'
import { createFetch, type ObjectFetch } from './object-fetch.ts'
import type { ObjectFetches } from './object-fetches.ts'
import type { PushGrants } from './push-grants.ts'
import type { ChunkPlace, Place, VersionTree } from './version-tree.ts'

export interface BlockDemandParts {
  readonly tree: VersionTree
  readonly tier: RamTier
  readonly fetches: ObjectFetches
  readonly leafPaths: LeafPaths
  readonly grants: PushGrants
  readonly diskCache: DiskCache | undefined
  /** A chunk is read, maybe not for the first time. */
  readonly onRead: (firstBlock: number, atMs: number, how: FirstRead) => void
  /** A chunk is waited for that is not on its way yet: it may be soon. */
  readonly hasten: (firstBlock: number) => void
}

export class BlockDemand {
  readonly #parts: BlockDemandParts

  constructor(parts: BlockDemandParts) {
    this.#parts = parts
  }

  /** Tells of what is here during the call, and of the rest when it comes. */
  add(wait: BlockWait): void {
    for (let block = wait.begin; block < wait.end; ) {
      const place = this.#parts.tree.find(block)
      if (place.kind === 'unknown') block = this.#waitForLeaf(block, wait)
      else if (place.kind === 'zeros') block = this.#takeZeros(place, block, wait)
      else {
        this.#addChunk(place, wait)
        block = place.firstBlock + place.blocks
      }
    }
  }

  #waitForLeaf(block: number, wait: BlockWait): number {
    const leaf = nodeOver(block, LEAF_LEVEL)
    const part = { ...wait, begin: block, end: Math.min(wait.end, (leaf + 1) * SPAN_BLOCKS) }
    this.#parts.leafPaths.get(leaf, {
      want: PRIORITY.demand,
      block,
      onLeaf: () => this.add(part),
      onClosed: (error) => wait.waiter.onClosed(error),
    })
    return part.end
  }

  /** Publishes the zeros around a block, no more than its span: an empty disk must cost no memory. */
  #takeZeros(place: Place & { kind: 'zeros' }, block: number, wait: BlockWait): number {
    const spanBegin = nodeOver(block, LEAF_LEVEL) * SPAN_BLOCKS
    const first = Math.max(place.firstBlock, spanBegin)
    const end = Math.min(place.firstBlock + place.blocks, spanBegin + SPAN_BLOCKS)
    this.#parts.tier.publishZeros(first, end - first)
    tell(wait, first, end - first)
    return end
  }

  #addChunk(place: ChunkPlace, wait: BlockWait): void {
    const { tier, fetches, onRead, hasten } = this.#parts
    const { firstBlock, blocks } = place
    if (tier.has(firstBlock)) return tell(wait, firstBlock, blocks)
    const present = fetches.get(CHUNK_LEVEL, firstBlock)
    onRead(firstBlock, wait.wantedAtMs, this.#howFound(place, present))
    if (present !== undefined) {
      present.waits.push(wait)
      return fetches.raise(present, PRIORITY.demand)
    }
    const name = { level: CHUNK_LEVEL, position: firstBlock }
    hasten(firstBlock)
    const fetch = createFetch(name, PRIORITY.demand, { place })
    fetch.waits.push(wait)
    fetches.begin(fetch)
  }

  #howFound({ firstBlock, hash }: ChunkPlace, present: ObjectFetch | undefined): FirstRead {
    const { diskCache, grants } = this.#parts
    if (diskCache?.has(hash) === true) return 'hit'
    if (grants.has(CHUNK_LEVEL, firstBlock)) return 'late'
    const isAhead = present?.arrival !== undefined || (present?.keepers.length ?? 0) > 0
    return isAhead && present?.state !== 'queued' ? 'late' : 'miss'
  }
}
