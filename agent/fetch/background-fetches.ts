/** What hydration needs: leaves and chunks that nobody waits for, kept on the local disk. */
import { LEAF_LEVEL, type LeafNode } from '#shared/manifest/leaf-node.ts'
import { nodeOver, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { CHUNK_ENCODING, CHUNK_LEVEL, PRIORITY } from '#shared/wire/frame.ts'
import type { CachedObject, DiskCache } from '../disk-cache/disk-cache.ts'
import { closedError } from './closed-error.ts'
import type { LeafPaths } from './leaf-paths.ts'
import type { BackgroundFetcher } from './local-copy.ts'
import { createFetch } from './object-fetch.ts'
import type { ObjectFetches } from './object-fetches.ts'
import type { ChunkPlace, VersionTree } from './version-tree.ts'

export interface BackgroundFetchesParts {
  readonly tree: VersionTree
  readonly fetches: ObjectFetches
  readonly leafPaths: LeafPaths
  readonly diskCache: DiskCache | undefined
  /** Whether a boot is prefetched. */
  readonly isPrefetching: () => boolean
  /** `performance.now()` of when somebody began to wait last. */
  readonly lastDemandMs: () => number
  /** Asks for what is wanted. */
  readonly pump: () => void
}

export class BackgroundFetches implements BackgroundFetcher {
  readonly #parts: BackgroundFetchesParts
  #isClosed = false

  constructor(parts: BackgroundFetchesParts) {
    this.#parts = parts
  }

  get sizeBytes(): number {
    return this.#parts.tree.sizeBytes
  }

  get leafCount(): number {
    return this.#parts.tree.leafCount
  }

  idleMs(): number {
    const { fetches, isPrefetching, lastDemandMs } = this.#parts
    return isPrefetching() || fetches.isHurried ? 0 : performance.now() - lastDemandMs()
  }

  async leaf(position: number): Promise<LeafNode | undefined> {
    if (this.#isClosed) throw closedError()
    const { tree, leafPaths, pump } = this.#parts
    const { kind } = tree.find(position * SPAN_BLOCKS)
    if (kind !== 'unknown') return tree.leaf(position)
    const { promise, resolve, reject } = Promise.withResolvers<LeafNode | undefined>()
    leafPaths.get(position, {
      want: PRIORITY.hydration,
      onLeaf: () => resolve(tree.leaf(position)),
      onClosed: reject,
    })
    pump()
    return await promise
  }

  keepNodes(position: number): boolean {
    const { tree, diskCache } = this.#parts
    let isKept = diskCache !== undefined
    for (let level = LEAF_LEVEL; level <= tree.levels; level += 1) {
      const at = nodeOver(position * SPAN_BLOCKS, level)
      const hash = tree.hashOf(level, at)
      if (hash === 'zeros' || (hash !== undefined && diskCache?.has(hash) === true)) continue
      const bytes = tree.encoded(level, at)
      // It came before the disk was there, or when that was behind.
      const isTaken = hash && bytes && diskCache?.keep(hash, asRaw(bytes))
      isKept = isTaken === true && isKept
    }
    return isKept
  }

  async keep(chunk: ChunkPlace): Promise<boolean> {
    if (this.#isClosed) throw closedError()
    const { fetches, pump } = this.#parts
    const name = { level: CHUNK_LEVEL, position: chunk.firstBlock }
    const present = fetches.get(name.level, name.position)
    const fetch = present ?? createFetch(name, PRIORITY.hydration, { place: chunk })
    const { promise, resolve } = Promise.withResolvers<boolean>()
    fetch.keepers.push(resolve)
    // The local disk has not got it; and where it is pushed, too, it is left out there.
    if (present === undefined) fetches.beginAsking(fetch)
    pump()
    const isHere = await promise
    if (this.#isClosed) throw closedError()
    return isHere
  }

  /** Call before what is wanted is ended. */
  close(): void {
    this.#isClosed = true
  }
}

function asRaw(payload: Uint8Array): CachedObject {
  return { encoding: CHUNK_ENCODING.raw, rawBytes: payload.length, payload }
}
