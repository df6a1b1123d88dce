/** Fetches what follows where somebody reads on and on, as far as the path bears it. */
import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { nodeOver, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { CHUNK_LEVEL, PRIORITY } from '#shared/wire/frame.ts'
import type { RamTier } from '../ram-tier/ram-tier.ts'
import type { LeafPaths } from './leaf-paths.ts'
import { createFetch, type ObjectFetch } from './object-fetch.ts'
import type { ObjectFetches } from './object-fetches.ts'
import type { PushGrants } from './push-grants.ts'
import { SequentialReadahead } from './sequential-readahead.ts'
import type { ChunkPlace, VersionTree } from './version-tree.ts'

/** Chunks that wait to be fetched ahead; the oldest are forgotten, for their reader came past. */
const READAHEAD_QUEUE_MAX = 256

export interface BlockReadaheadParts {
  readonly tree: VersionTree
  readonly tier: RamTier
  readonly fetches: ObjectFetches
  readonly leafPaths: LeafPaths
  readonly grants: PushGrants
  /** Whether a chunk comes by itself, and what follows it, if that is read. */
  readonly isForeseen: (firstBlock: number) => boolean
}

export class BlockReadahead {
  readonly #parts: BlockReadaheadParts
  readonly #streams: SequentialReadahead

  constructor(parts: BlockReadaheadParts) {
    this.#parts = parts
    this.#streams = new SequentialReadahead(parts.tree.blocks)
  }

  /** Somebody has read blocks that were not here. */
  missed(firstBlock: number, endBlock: number): void {
    const { tree, isForeseen } = this.#parts
    const first = tree.find(firstBlock)
    const last = tree.find(endBlock - 1)
    if (first.kind === 'chunk' && isForeseen(first.firstBlock)) return
    const ahead = this.#streams.next({
      first: first.kind === 'chunk' ? first.firstBlock : firstBlock,
      end: last.kind === 'chunk' ? last.firstBlock + last.blocks : endBlock,
    })
    this.#fetch(ahead.first, ahead.end)
  }

  #fetch(begin: number, end: number): void {
    for (let block = begin; block < end; ) {
      const place = this.#parts.tree.find(block)
      if (place.kind === 'unknown') block = this.#waitForLeaf(block, end)
      else {
        if (place.kind === 'chunk') this.#fetchChunk(place)
        block = place.firstBlock + place.blocks
      }
    }
  }

  #waitForLeaf(block: number, end: number): number {
    const leaf = nodeOver(block, LEAF_LEVEL)
    const spanEnd = Math.min(end, (leaf + 1) * SPAN_BLOCKS)
    this.#parts.leafPaths.get(leaf, {
      want: PRIORITY.prefetch,
      onLeaf: () => this.#fetch(block, spanEnd),
      onClosed: () => undefined, // nobody waits
    })
    return spanEnd
  }

  #fetchChunk(place: ChunkPlace): void {
    const { tier, fetches, grants } = this.#parts
    const name = { level: CHUNK_LEVEL, position: place.firstBlock }
    const isComing =
      tier.has(place.firstBlock) ||
      fetches.isWanted(name.level, name.position) ||
      grants.has(name.level, name.position)
    if (isComing) return
    fetches.begin(createFetch(name, PRIORITY.prefetch, { place, arrival: 'readahead' }))
    const oldest = fetches.next(PRIORITY.prefetch)
    const isTooMuch = fetches.queueLength(PRIORITY.prefetch) > READAHEAD_QUEUE_MAX
    if (isTooMuch && oldest?.arrival === 'readahead') this.#forget(oldest)
  }

  /** It may be wanted for the local disk. */
  #forget(fetch: ObjectFetch): void {
    delete fetch.arrival
    if (fetch.keepers.length > 0) this.#parts.fetches.ask(fetch, PRIORITY.hydration)
    else this.#parts.fetches.end(fetch)
  }
}
