/** Which way an object that a boot is expected to need gets here, as far as that can be told now. */
import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { blocksUnder, bytesOfBlocks, FAN_OUT, nodeOver } from '#shared/manifest/tree-shape.ts'
import { type BootListEntry, CHUNK_LEVEL, type ObjectName } from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import type { DiskCache } from '../disk-cache/disk-cache.ts'
import type { RamTier } from '../ram-tier/ram-tier.ts'
import type { ObjectFetches } from './object-fetches.ts'
import type { PushGrants } from './push-grants.ts'
import type { ChunkPlace, VersionTree } from './version-tree.ts'

/** Reckoned of chunks whose leaf is not here yet; the usual is 0.35, and more would not be too much. */
const SHRINKING_AT_LEAST = 0.25

export type EntryWay =
  /** It is here, is coming, or there is no such object. */
  | { readonly kind: 'none' }
  /** That is only seen when a leaf is here, which must be got where it is named. */
  | { readonly kind: 'unknown'; readonly leaf?: number }
  | { readonly kind: 'push'; readonly rawBytes: number }
  | { readonly kind: 'local'; readonly rawBytes: number; readonly place?: ChunkPlace }

const NONE: EntryWay = { kind: 'none' }

export interface EntryWaysParts {
  readonly tree: VersionTree
  readonly tier: RamTier
  readonly fetches: ObjectFetches
  readonly grants: PushGrants
  readonly diskCache: DiskCache | undefined
}

export class EntryWays {
  readonly #parts: EntryWaysParts

  constructor(parts: EntryWaysParts) {
    this.#parts = parts
  }

  /** `isWarm`: the local disk has much, so that it is worth to see first whether it has this. */
  of(entry: BootListEntry, isWarm: boolean): EntryWay {
    return entry.level === CHUNK_LEVEL ? this.#ofChunk(entry, isWarm) : this.#ofNode(entry, isWarm)
  }

  #ofNode({ level, position }: ObjectName, isWarm: boolean): EntryWay {
    const { tree, fetches, diskCache } = this.#parts
    const hash = tree.hashOf(level, position)
    if (tree.has(level, position) || hash === 'zeros') return NONE
    if (fetches.isWanted(level, position)) return NONE
    if (hash === undefined && isWarm) {
      // Its parent says.
      if (this.#isComing(level + 1, Math.floor(position / FAN_OUT))) return { kind: 'unknown' }
      return { kind: 'unknown', leaf: nodeOver(position * blocksUnder(level), LEAF_LEVEL) }
    }
    if (hash !== undefined && diskCache?.has(hash) === true) return { kind: 'local', rawBytes: 0 }
    return { kind: 'push', rawBytes: 0 }
  }

  #ofChunk(entry: BootListEntry, isWarm: boolean): EntryWay {
    const { tree, tier, fetches, diskCache } = this.#parts
    const { position } = entry
    if (position >= tree.blocks) return NONE
    const place = tree.find(position)
    if (place.kind === 'unknown') return this.#ofUnknownChunk(entry, isWarm)
    const isChunk = place.kind === 'chunk' && place.firstBlock === position
    if (!isChunk || tier.has(position) || fetches.isWanted(CHUNK_LEVEL, position)) return NONE
    const rawBytes = bytesOfBlocks(tree.sizeBytes, position, place.blocks)
    if (diskCache?.has(place.hash) === true) return { kind: 'local', rawBytes, place }
    return { kind: 'push', rawBytes }
  }

  /** Its leaf is not here: pushed behind it, or else waited for. */
  #ofUnknownChunk({ position, storedBytes }: BootListEntry, isWarm: boolean): EntryWay {
    const leaf = nodeOver(position, LEAF_LEVEL)
    if (!this.#isComing(LEAF_LEVEL, leaf)) return { kind: 'unknown', leaf }
    if (isWarm) return { kind: 'unknown' }
    return { kind: 'push', rawBytes: Math.min(CHUNK_BYTES_MAX, storedBytes / SHRINKING_AT_LEAST) }
  }

  #isComing(level: number, position: number): boolean {
    const { fetches, grants } = this.#parts
    return grants.has(level, position) || fetches.isWanted(level, position)
  }
}
