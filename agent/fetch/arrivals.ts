/**
 * What came, from the server or the local disk: proven, and put where it is wanted. Nodes go into the
 * manifest, chunks into the RAM tier and to who waits for them; what the server sent is kept on the local
 * disk. What came wrong is counted, never handed on, and asked for again without end.
 */
import { ChunkDecoder, type Encoded } from '#shared/chunk/chunk-decoder.ts'
import { BootwireError } from '#shared/errors.ts'
import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import {
  CHUNK_LEVEL,
  NO_PAYLOAD,
  type ObjectHeader,
  type ObjectName,
  PRIORITY,
} from '#shared/wire/frame.ts'
import type { CachedObject, DiskCache } from '../disk-cache/disk-cache.ts'
import type { Arrival, RamTier } from '../ram-tier/ram-tier.ts'
import { tell } from './block-wait.ts'
import type { FaultLog } from './fault-log.ts'
import { type CameChunk, HeldChunks, type Source } from './held-chunks.ts'
import type { LeafPaths } from './leaf-paths.ts'
import { createFetch, type ObjectFetch } from './object-fetch.ts'
import type { ObjectFetches } from './object-fetches.ts'
import { ObjectIntake } from './object-intake.ts'
import type { VersionTree } from './version-tree.ts'

export interface ArrivalsParts {
  readonly tree: VersionTree
  readonly tier: RamTier
  readonly fetches: ObjectFetches
  readonly leafPaths: LeafPaths
  readonly diskCache: DiskCache | undefined
  readonly faults: FaultLog
  /** Whether what came ahead of the kernel is to be spared until that reads it. */
  readonly mayGuard: () => boolean
  /** What was held has found room. */
  readonly onRoom: () => void
}

export class Arrivals {
  readonly #parts: ArrivalsParts
  readonly #intake: ObjectIntake
  readonly #held: HeldChunks

  constructor(parts: ArrivalsParts) {
    this.#parts = parts
    const { tier, tree } = parts
    this.#intake = new ObjectIntake(tier, new ChunkDecoder(), tree.sizeBytes)
    this.#held = new HeldChunks(
      () => tier.room(),
      (chunks) => this.#takeHeld(chunks),
    )
  }

  /** Whether something waits for room: what comes now would, too. */
  get isHeldUp(): boolean {
    return !this.#held.isEmpty
  }

  /** An object came from the server. */
  fromServer(header: ObjectHeader, payload: Uint8Array, isPushed: boolean): void {
    if (header.level === CHUNK_LEVEL) this.#chunkCame(header, payload, isPushed)
    else this.#nodeCame(header, payload, 'server')
  }

  /** The local disk has read an object, or has not got it: then the server is asked, unless it was. */
  fromDisk(fetch: ObjectFetch, hash: Uint8Array, object: CachedObject | undefined): void {
    const { fetches } = this.#parts
    const { level, position, place } = fetch
    if (object === undefined) {
      if (fetch.state === 'local') fetches.ask(fetch)
    } else if (place === undefined) {
      this.#nodeCame({ level, position, ...object }, object.payload, 'local')
    } else {
      this.#take({ fetch, place, encoded: object, payload: object.payload, source: 'local' }, hash)
    }
  }

  // Nodes ------------------------------------------------------------------------------------------

  #nodeCame(header: ObjectName & Encoding, payload: Uint8Array, source: Source): void {
    const { tree, fetches, diskCache } = this.#parts
    const { level, position } = header
    const fetch = fetches.get(level, position)
    const hash = tree.hashOf(level, position)
    if (hash === undefined || tree.has(level, position)) {
      // Its parent came wrong: both are asked for again. Or it came twice.
      if (fetch !== undefined) fetches.end(fetch)
      return
    }
    if (hash !== 'zeros') {
      try {
        const encoded = withPayload(header)
        tree.accept(level, position, this.#intake.decodeNode(encoded, payload))
        if (source === 'server') diskCache?.keep(hash, { ...encoded, payload })
      } catch (error) {
        return this.#failed(fetch, header, hash, error, source)
      }
    }
    if (fetch !== undefined) fetches.end(fetch)
    this.#nodeIsHere(level, position)
  }

  #nodeIsHere(level: number, position: number): void {
    if (level === LEAF_LEVEL) this.#publishZeros(position)
    this.#parts.leafPaths.nodeIsHere(level, position)
  }

  /** What a leaf says is zero needs no fetch. */
  #publishZeros(position: number): void {
    const { tree, tier } = this.#parts
    const leaf = tree.leaf(position)
    for (let index = 0; index < (leaf?.extentCount ?? 0); index += 1) {
      const extent = leaf?.extent(index)
      if (extent === undefined || extent.hash !== undefined) continue
      tier.publishZeros(position * SPAN_BLOCKS + extent.firstBlock, extent.blocks)
    }
  }

  // Chunks -----------------------------------------------------------------------------------------

  #chunkCame(header: ObjectHeader, payload: Uint8Array, isPushed: boolean): void {
    const { tree, tier, fetches, leafPaths } = this.#parts
    const { position } = header
    const present = fetches.get(CHUNK_LEVEL, position)
    // The leaf may have been forgotten since it was asked for.
    if (present?.place !== undefined) {
      if (isPushed) present.arrival = 'guarded'
      return this.#chunkFromServer(present, header, payload)
    }
    if (position >= tree.blocks) return this.#liedAbout(header)
    const place = tree.find(position)
    if (place.kind === 'unknown') return leafPaths.chunkBeforeLeaf(header)
    if (place.kind === 'zeros') return
    if (place.firstBlock !== position) return this.#liedAbout(header)
    if (!isPushed || tier.has(position)) return // nobody wants it any more, or it came twice
    const unasked = createFetch(header, PRIORITY.prefetch, { place, arrival: 'guarded' })
    this.#chunkFromServer(unasked, header, payload)
  }

  #chunkFromServer(fetch: ObjectFetch, header: ObjectHeader, payload: Uint8Array): void {
    const { place } = fetch
    if (place === undefined) return
    try {
      const encoded = withPayload(header)
      this.#store({ fetch, place, encoded, payload, source: 'server' })
    } catch (error) {
      this.#failed(fetch, header, place.hash, error, 'server')
    }
  }

  #take(chunk: CameChunk, hash: Uint8Array): void {
    try {
      this.#store(chunk)
    } catch (error) {
      this.#failed(chunk.fetch, chunk.fetch, hash, error, chunk.source)
    }
  }

  /** @throws {BootwireError} CHUNK_CORRUPT */
  #store(chunk: CameChunk): void {
    const { fetches, diskCache } = this.#parts
    const { fetch, place, encoded, payload, source } = chunk
    const arrival = this.#arrivalOf(fetch)
    if (arrival === undefined) this.#intake.check(place, encoded, payload)
    else if (!this.#intake.publish(place, encoded, payload, arrival)) {
      if (arrival !== 'demanded') return fetches.end(fetch)
      fetches.hold(fetch)
      return this.#held.hold(chunk)
    }
    if (source === 'server') diskCache?.keep(place.hash, { ...encoded, payload })
    fetches.end(fetch, true)
    for (const wait of fetch.waits) tell(wait, place.firstBlock, place.blocks)
  }

  /** How a chunk is published; undefined when nobody wants it in the RAM tier. */
  #arrivalOf({ waits, arrival }: ObjectFetch): Arrival | undefined {
    if (waits.length > 0) return 'demanded'
    return arrival === 'guarded' && !this.#parts.mayGuard() ? 'readahead' : arrival
  }

  #takeHeld(chunks: readonly CameChunk[]): void {
    for (const chunk of chunks) {
      if (this.#parts.fetches.has(chunk.fetch)) this.#take(chunk, chunk.place.hash)
    }
    this.#parts.onRoom()
  }

  // Faults -----------------------------------------------------------------------------------------

  /** An object was not what the manifest says, or the server cannot read it. */
  #failed(
    fetch: ObjectFetch | undefined,
    name: ObjectName,
    hash: Uint8Array,
    error: unknown,
    source: Source,
  ): void {
    if (!(error instanceof BootwireError)) throw error
    const { fetches, faults, diskCache } = this.#parts
    faults.add(name, error, performance.now())
    if (source === 'local') diskCache?.forget(hash)
    if (fetch === undefined) return
    // Who only wanted it for the local disk tries another time.
    const isNeeded = fetch.level !== CHUNK_LEVEL || fetch.waits.length > 0
    if (!isNeeded) return fetches.end(fetch)
    for (const keeper of fetch.keepers.splice(0)) keeper(false)
    if (source === 'local') fetches.ask(fetch)
    else fetches.askAgain(fetch)
  }

  /** The server named a chunk that does not begin there. Whoever waits asks again in time. */
  #liedAbout(header: ObjectHeader): void {
    const error = new BootwireError(
      'CHUNK_CORRUPT',
      `Cannot use chunk ${header.position}: no chunk begins there`,
    )
    this.#parts.faults.add(header, error, performance.now())
  }
}

type Encoding = Pick<ObjectHeader, 'encoding' | 'rawBytes'>

/** @throws {BootwireError} CHUNK_CORRUPT when the server has nothing to send */
function withPayload({ level, position, encoding, rawBytes }: ObjectName & Encoding): Encoded {
  if (encoding !== NO_PAYLOAD.absent && encoding !== NO_PAYLOAD.unreadable) {
    return { encoding, rawBytes }
  }
  const why = encoding === NO_PAYLOAD.absent ? 'says it has none' : 'cannot read it'
  throw new BootwireError(
    'CHUNK_CORRUPT',
    `Cannot use object ${level}/${position}: the server ${why}`,
  )
}
