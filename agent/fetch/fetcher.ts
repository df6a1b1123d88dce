/**
 * Fetches what is not in the RAM tier: from the local disk if that has it, else from the server. Each
 * object is asked for once however many wait for it; what somebody waits for goes before what is
 * prefetched, and that before hydration. What comes wrong is asked for again without end: a root gets
 * no I/O error because a disk or a link is bad, and never a byte that was not proven.
 *
 * A block is found through its leaf. Where that is not here, the nodes above it and, by the block's
 * number, the chunk itself are asked for in one go; answers come in the order of the requests, so
 * that the chunk can be proven when it comes. Main thread only.
 */

import { ChunkDecoder, type Encoded } from '#shared/chunk/chunk-decoder.ts'
import { BootwireError } from '#shared/errors.ts'
import { LEAF_LEVEL, type LeafNode } from '#shared/manifest/leaf-node.ts'
import { BLOCK_BYTES, bytesOfBlocks, nodeOver, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import type { VersionRoot } from '#shared/manifest/version-root.ts'
import {
  type BootListEntry,
  CHUNK_ENCODING,
  CHUNK_LEVEL,
  NO_PAYLOAD,
  type ObjectHeader,
  type ObjectName,
  PRIORITY,
  type Priority,
  type PushRange,
  type TraceEntry,
} from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import type { CachedObject, DiskCache } from '../disk-cache/disk-cache.ts'
import type { Arrival, RamTier } from '../ram-tier/ram-tier.ts'
import { ReadClock } from '../ram-tier/read-clock.ts'
import { BootPrefetch, type PrefetchHost } from './boot-prefetch.ts'
import { BootRecorder, type FirstRead } from './boot-recorder.ts'
import { FaultLog, type ObjectFault } from './fault-log.ts'
import { FetchTable } from './fetch-table.ts'
import { LeafWait } from './leaf-waits.ts'
import type { BackgroundFetcher } from './local-copy.ts'
import { LocalReader } from './local-reader.ts'
import {
  type BlockWaiter,
  createFetch,
  type FetchState,
  type ObjectFetch,
  pauseMs,
  tell,
  type Wait,
} from './object-fetch.ts'
import { ObjectIntake } from './object-intake.ts'
import type { ObjectListener, ObjectTransport } from './object-transport.ts'
import { PathLoad } from './path-load.ts'
import type { PathWindow } from './path-window.ts'
import { RequestBook } from './request-book.ts'
import { SequentialReadahead } from './sequential-readahead.ts'
import { type ChunkPlace, type Place, type UnknownNode, VersionTree } from './version-tree.ts'

/** Chunks that wait to be fetched ahead; the oldest are forgotten, for their reader came past. */
const READAHEAD_QUEUE_MAX = 256
/** What an object takes of the window, before it is known: chunks shrink to 0.35, a leaf has 15 KB. */
const USUAL_SHRINKING = 0.35
const USUAL_NODE_BYTES = 15_000
const CHUNK_BLOCKS_MAX = CHUNK_BYTES_MAX / BLOCK_BYTES
/**
 * Beyond the time at which something was expected that is on its way; then it is asked for. What the
 * server has put into its socket comes first anyway, and would come twice.
 */
const PATIENCE_MS = 50
/** A disk that takes longer is dying: the server is asked, too. Spinning up takes longer still. */
const LOCAL_PATIENCE_MS = 1_000
/**
 * What never comes, as of no server of ours, is asked for again after so many sweeps; later when nobody
 * waits: it may be behind much else.
 */
const HURRIED_SWEEPS_MAX = 3
const UNHURRIED_SWEEPS_MAX = 12
const SWEEP_INTERVAL_MS = 5_000

export interface FetcherOptions {
  readonly root: VersionRoot
  readonly tier: RamTier
  readonly transport: ObjectTransport
  readonly diskCache?: DiskCache | undefined
  /** Whether sequential reads ask for what follows. */
  readonly readahead: boolean
  /** Whether this is a boot: what it reads is recorded, and the boot list prefetched. */
  readonly isBoot: boolean
  readonly onFault: (fault: ObjectFault) => void
  /** These are only given by tests. */
  readonly pathWindow?: PathWindow | undefined
  readonly leafMemoryBytesMax?: number | undefined
}

/** What is not finished yet; nothing of it stays for ever, and all is 0 when nobody wants anything. */
export interface Unfinished {
  readonly objects: number
  readonly leaves: number
  readonly answers: number
  readonly bytesOnTheWay: number
}

export interface FetcherStats {
  readonly chunksReceived: number
  /** Payload of chunks as it came over the wire. */
  readonly chunkBytesReceived: number
  readonly objectsCorrupt: number
  readonly prefetch: {
    readonly hits: number
    readonly late: number
    readonly misses: number
    readonly pushedBytes: number
    readonly unusedBytes: number
  }
}

type Source = 'server' | 'local'

const IS_COMING: ReadonlySet<FetchState> = new Set(['queued', 'asked', 'awaited'])

/** A chunk that came while readers held up the RAM tier. */
interface Held {
  readonly fetch: ObjectFetch
  readonly place: ChunkPlace
  readonly encoded: Encoded
  readonly payload: Uint8Array
  readonly source: Source
}

export class Fetcher implements ObjectListener, BackgroundFetcher, PrefetchHost {
  readonly #options: FetcherOptions
  readonly #tree: VersionTree
  readonly #tier: RamTier
  readonly #clock: ReadClock
  readonly #load: PathLoad
  readonly #book: RequestBook
  readonly #table = new FetchTable()
  readonly #intake: ObjectIntake
  readonly #local: LocalReader | undefined
  readonly #readahead: SequentialReadahead
  readonly #prefetch: BootPrefetch
  readonly #recorder = new BootRecorder()
  readonly #faults: FaultLog
  /** By the number of the leaf. */
  readonly #leafWaits = new Map<number, LeafWait>()
  /** Chunks asked for by a block, whose leaf is not here; by that block. */
  readonly #speculative = new Map<number, ObjectFetch>()
  #held: Held[] = []
  readonly #sweepTimer: NodeJS.Timeout
  #isOpen = false
  #isClosed = false
  #isPumping = false
  #trace: TraceEntry[] = []
  #localBytes = 0
  #lastDemandMs = Number.NEGATIVE_INFINITY
  #chunksReceived = 0
  #chunkBytesReceived = 0

  constructor(options: FetcherOptions) {
    const { root, tier, transport, diskCache, onFault } = options
    this.#options = options
    this.#tree = new VersionTree(root, options.leafMemoryBytesMax)
    this.#tier = tier
    this.#clock = new ReadClock(tier.memory.beganAtMs)
    this.#load = new PathLoad(options.pathWindow)
    this.#book = new RequestBook(transport, this.#load)
    this.#intake = new ObjectIntake(tier, new ChunkDecoder(), root.sizeBytes)
    this.#local = diskCache && new LocalReader(diskCache, (...came) => this.#localCame(...came))
    this.#readahead = new SequentialReadahead(this.#tree.blocks)
    this.#prefetch = new BootPrefetch({
      tree: this.#tree,
      tier,
      load: this.#load,
      diskCache,
      host: this,
    })
    this.#faults = new FaultLog(onFault)
    if (!options.isBoot) this.endBoot()
    tier.onFirstRead((firstBlock, atMs) => this.#wasRead(firstBlock, atMs, 'hit'))
    this.#sweepTimer = setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS).unref()
    transport.listen(this)
  }

  get sizeBytes(): number {
    return this.#tree.sizeBytes
  }

  get leafCount(): number {
    return this.#tree.leafCount
  }

  get localBytes(): number {
    return this.#localBytes
  }

  stats(): FetcherStats {
    const { hit: hits, late, miss: misses } = this.#recorder.counts
    const { pushedBytes, unusedBytes } = this.#prefetch
    return {
      chunksReceived: this.#chunksReceived,
      chunkBytesReceived: this.#chunkBytesReceived,
      objectsCorrupt: this.#faults.total,
      prefetch: { hits, late, misses, pushedBytes, unusedBytes },
    }
  }

  get unfinished(): Unfinished {
    return {
      objects: this.#table.size,
      leaves: this.#leafWaits.size,
      answers: this.#book.answersExpected,
      bytesOnTheWay: this.#load.bytes,
    }
  }

  /**
   * Fetches blocks that somebody waits for; may tell of some during the call. Never fails because the
   * server is away: it waits.
   */
  demand(firstBlock: number, endBlock: number, waiter: BlockWaiter): void {
    if (this.#isClosed) return waiter.onClosed(closedError())
    this.#lastDemandMs = performance.now()
    const wantedAtMs = this.#clock.now() - 1
    this.#demand({ begin: firstBlock, end: endBlock, waiter, wantedAtMs })
    this.#pump()
  }

  /** Says that blocks were read that were not here, so that what follows is fetched ahead. */
  readAhead(firstBlock: number, endBlock: number): void {
    if (!this.#options.readahead || this.#isClosed) return
    const first = this.#tree.find(firstBlock)
    const last = this.#tree.find(endBlock - 1)
    // What was foreseen comes by itself, and what follows it, if that is read.
    if (first.kind === 'chunk' && this.#prefetch.lists(first.firstBlock)) return
    const ahead = this.#readahead.next({
      first: first.kind === 'chunk' ? first.firstBlock : firstBlock,
      end: last.kind === 'chunk' ? last.firstBlock + last.blocks : endBlock,
    })
    if (ahead.first >= ahead.end) return
    this.#fetchAhead(ahead.first, ahead.end)
    this.#pump()
  }

  /** Hears of what was read in shared memory since the last time. */
  harvest(): void {
    this.#tier.harvest()
    this.#pump()
  }

  /** The boot is over: tells the server what it read, and prefetches no more of its list. */
  endBoot(): void {
    this.#tier.harvest()
    this.#prefetch.stop()
    this.#trace = this.#recorder.finish()
    this.#sendTrace()
  }

  /** Forgets what the boot has read: it is not one to learn from. */
  dropTrace(): void {
    this.#recorder.finish()
  }

  /** Rejects everybody who waits, now and later. */
  close(): void {
    this.#isClosed = true
    this.#isOpen = false
    clearInterval(this.#sweepTimer)
    const error = closedError()
    for (const fetch of this.#table.values()) {
      this.#table.delete(fetch)
      for (const { waiter } of fetch.waits) waiter.onClosed(error)
    }
    for (const { waits, readers } of this.#leafWaits.values()) {
      for (const { waiter } of waits) waiter.onClosed(error)
      for (const reader of readers) reader.reject(error)
    }
    this.#leafWaits.clear()
  }

  // What the transport says ----------------------------------------------------------------------

  onOpen(): void {
    this.#isOpen = !this.#isClosed
    this.#sendTrace()
    this.#pump()
  }

  onLost(): void {
    this.#isOpen = false
    this.#book.clear()
    this.#prefetch.onLost()
    this.#load.reset()
    for (const fetch of this.#table.values()) {
      const isOfConnection = fetch.state === 'asked' || fetch.state === 'awaited'
      if (isOfConnection) this.#table.enqueue(fetch, fetch.want)
    }
  }

  onBootList(entries: readonly BootListEntry[], pushed: number): void {
    if (this.#isClosed) return
    this.#prefetch.start(entries, pushed)
    this.#pump()
  }

  onObject(received: ObjectHeader, payload: Uint8Array): void {
    if (this.#isClosed) return
    const nowMs = performance.now()
    const header = this.#named(received)
    const isAsked = this.#book.answered(header, nowMs)
    const isPushed = this.#prefetch.arrived(header, isAsked, nowMs)
    if (header.level === CHUNK_LEVEL) {
      this.#chunksReceived += 1
      this.#chunkBytesReceived += payload.length
      this.#chunkCame(header, payload, isPushed)
    } else {
      this.#nodeCame(header, payload, 'server')
    }
    this.#pump()
  }

  /** An answer without a payload may name the block that was asked for; all others, the first. */
  #named(header: ObjectHeader): ObjectHeader {
    const { level, position, storedBytes } = header
    if (level !== CHUNK_LEVEL || storedBytes > 0 || position >= this.#tree.blocks) return header
    const place = this.#tree.find(position)
    return place.kind === 'chunk' ? { ...header, position: place.firstBlock } : header
  }

  // What the prefetch of the boot list asks for --------------------------------------------------

  isWanted(level: number, position: number): boolean {
    return this.#table.get(level, position) !== undefined
  }

  wasRead(firstBlock: number): boolean {
    const isWaitedFor = (this.#table.get(CHUNK_LEVEL, firstBlock)?.waits.length ?? 0) > 0
    return isWaitedFor || this.#recorder.has(firstBlock)
  }

  notComing({ level, position }: ObjectName): void {
    const fetch = this.#table.get(level, position)
    if (fetch?.state === 'awaited') this.#table.enqueue(fetch, fetch.want)
  }

  readLocal(name: ObjectName, place: ChunkPlace | undefined): void {
    const fetch = createFetch(name, PRIORITY.prefetch, place)
    if (place !== undefined) {
      fetch.arrival = 'guarded'
      fetch.localAheadBytes = bytesOfBlocks(this.sizeBytes, place.firstBlock, place.blocks)
      this.#localBytes += fetch.localAheadBytes
    }
    this.#table.add(fetch)
    this.#route(fetch)
  }

  needLeaf(position: number): void {
    if (this.#leafWaits.get(position)?.isPrefetched === true) return
    const wait = this.#leafWaitOf(position)
    wait.isPrefetched = true
    this.#advanceLeaf(wait)
  }

  push(ranges: readonly PushRange[]): void {
    this.#options.transport.push(ranges)
  }

  // What hydration asks for ----------------------------------------------------------------------

  idleMs(): number {
    if (this.#prefetch.isActive) return 0
    for (const { want } of this.#table.values()) if (want === PRIORITY.demand) return 0
    return performance.now() - this.#lastDemandMs
  }

  async leaf(position: number): Promise<LeafNode | undefined> {
    if (this.#isClosed) throw closedError()
    const place = this.#tree.find(position * SPAN_BLOCKS)
    if (place.kind !== 'unknown') return this.#tree.leaf(position)
    const wait = this.#leafWaitOf(position)
    const reader = Promise.withResolvers<LeafNode | undefined>()
    wait.readers.push(reader)
    this.#advanceLeaf(wait)
    this.#pump()
    return await reader.promise
  }

  keepNodes(position: number): boolean {
    const { diskCache } = this.#options
    let isKept = diskCache !== undefined
    for (let level = LEAF_LEVEL; level <= this.#tree.levels; level += 1) {
      const at = nodeOver(position * SPAN_BLOCKS, level)
      const hash = this.#tree.hashOf(level, at)
      if (hash === 'zeros' || (hash !== undefined && diskCache?.has(hash) === true)) continue
      const bytes = this.#tree.encoded(level, at)
      // It came before the disk was there, or when that was behind.
      const isTaken = hash && bytes && diskCache?.keep(hash, asRaw(bytes))
      isKept = isTaken === true && isKept
    }
    return isKept
  }

  async keep(chunk: ChunkPlace): Promise<boolean> {
    if (this.#isClosed) throw closedError()
    const kept = Promise.withResolvers<boolean>()
    const name = { level: CHUNK_LEVEL, position: chunk.firstBlock }
    const present = this.#table.get(CHUNK_LEVEL, chunk.firstBlock)
    const fetch = present ?? createFetch(name, PRIORITY.hydration, chunk)
    fetch.keepers.push(kept.resolve)
    if (present === undefined) {
      this.#table.add(fetch)
      this.#table.enqueue(fetch, PRIORITY.hydration)
    }
    this.#pump()
    const isHere = await kept.promise
    if (this.#isClosed) throw closedError()
    return isHere
  }

  // Wanting --------------------------------------------------------------------------------------

  #demand(wait: Wait): void {
    for (let block = wait.begin; block < wait.end; ) {
      const place = this.#tree.find(block)
      if (place.kind === 'unknown') {
        const leaf = nodeOver(block, LEAF_LEVEL)
        const end = Math.min(wait.end, (leaf + 1) * SPAN_BLOCKS)
        const leafWait = this.#leafWaitOf(leaf)
        leafWait.waits.push({ ...wait, begin: block, end })
        this.#advanceLeaf(leafWait)
        block = end
      } else if (place.kind === 'zeros') {
        block = this.#takeZeros(place, block, wait)
      } else {
        this.#demandChunk(place, wait)
        block = place.firstBlock + place.blocks
      }
    }
  }

  /** Publishes the zeros around a block, no more than its span: an empty disk must cost no memory. */
  #takeZeros(place: Place & { kind: 'zeros' }, block: number, wait: Wait): number {
    const spanBegin = nodeOver(block, LEAF_LEVEL) * SPAN_BLOCKS
    const first = Math.max(place.firstBlock, spanBegin)
    const end = Math.min(place.firstBlock + place.blocks, spanBegin + SPAN_BLOCKS)
    this.#tier.publishZeros(first, end - first)
    tell(wait, first, end - first)
    return end
  }

  #demandChunk(place: ChunkPlace, wait: Wait): void {
    const { firstBlock, blocks } = place
    if (this.#tier.has(firstBlock)) return tell(wait, firstBlock, blocks)
    const present = this.#table.get(CHUNK_LEVEL, firstBlock)
    this.#wasRead(firstBlock, wait.wantedAtMs, this.#howFound(place, present))
    if (present !== undefined) {
      present.waits.push(wait)
      this.#hurry(present)
      return
    }
    const name = { level: CHUNK_LEVEL, position: firstBlock }
    const fetch = createFetch(name, PRIORITY.demand, place)
    fetch.waits.push(wait)
    this.#table.add(fetch)
    this.#route(fetch)
  }

  #howFound({ firstBlock, hash }: ChunkPlace, present: ObjectFetch | undefined): FirstRead {
    if (this.#options.diskCache?.has(hash) === true) return 'hit'
    const nowMs = performance.now()
    if (this.#prefetch.expectedAtMs(CHUNK_LEVEL, firstBlock, nowMs) !== undefined) return 'late'
    const isAhead = present?.arrival !== undefined || (present?.keepers.length ?? 0) > 0
    return isAhead && present?.state !== 'queued' ? 'late' : 'miss'
  }

  #fetchAhead(begin: number, end: number): void {
    for (let block = begin; block < end; ) {
      const place = this.#tree.find(block)
      if (place.kind === 'unknown') {
        const leaf = nodeOver(block, LEAF_LEVEL)
        const spanEnd = Math.min(end, (leaf + 1) * SPAN_BLOCKS)
        const leafWait = this.#leafWaitOf(leaf)
        leafWait.ahead.push({ first: block, end: spanEnd })
        this.#advanceLeaf(leafWait)
        block = spanEnd
      } else {
        if (place.kind === 'chunk') this.#fetchChunkAhead(place)
        block = place.firstBlock + place.blocks
      }
    }
  }

  #fetchChunkAhead(place: ChunkPlace): void {
    const { firstBlock } = place
    const nowMs = performance.now()
    const isComing =
      this.#tier.has(firstBlock) ||
      this.isWanted(CHUNK_LEVEL, firstBlock) ||
      this.#prefetch.expectedAtMs(CHUNK_LEVEL, firstBlock, nowMs) !== undefined
    if (isComing) return
    const fetch = createFetch(
      { level: CHUNK_LEVEL, position: firstBlock },
      PRIORITY.prefetch,
      place,
    )
    fetch.arrival = 'readahead'
    this.#table.add(fetch)
    this.#route(fetch)
    const oldest = this.#table.first(PRIORITY.prefetch)
    const isTooMuch = this.#table.queueLength(PRIORITY.prefetch) > READAHEAD_QUEUE_MAX
    if (isTooMuch && oldest?.arrival === 'readahead') this.#fetchNotAhead(oldest)
  }

  #fetchNotAhead(fetch: ObjectFetch): void {
    delete fetch.arrival
    if (fetch.keepers.length > 0) this.#table.enqueue(fetch, PRIORITY.hydration)
    else this.#table.delete(fetch)
  }

  /** Sends a fetch the way that is nearest. */
  #route(fetch: ObjectFetch): void {
    const { level, position, place, want } = fetch
    const hash = place?.hash ?? this.#tree.hashOf(level, position)
    const { diskCache } = this.#options
    if (hash instanceof Uint8Array && diskCache?.has(hash) === true) {
      fetch.state = 'local'
      this.#local?.read(fetch, hash)
      if (want === PRIORITY.demand) this.#beginPatience(fetch)
      return
    }
    const nowMs = performance.now()
    if (this.#prefetch.expectedAtMs(level, position, nowMs) === undefined) {
      return this.#table.enqueue(fetch, want)
    }
    fetch.state = 'awaited'
    if (want === PRIORITY.demand) this.#beginPatience(fetch)
  }

  /** Somebody waits now for what was not urgent. */
  #hurry(fetch: ObjectFetch): void {
    if (fetch.want === PRIORITY.demand) return
    if (fetch.state === 'queued') return this.#table.enqueue(fetch, PRIORITY.demand)
    fetch.want = PRIORITY.demand
    if (fetch.state !== 'held' && fetch.state !== 'paused') this.#beginPatience(fetch)
  }

  /** Asks the server after all when what is on its way takes too long. */
  #beginPatience(fetch: ObjectFetch): void {
    if (fetch.timer !== undefined) return
    const nowMs = performance.now()
    const expectedAtMs =
      fetch.state === 'asked'
        ? fetch.askedAtMs + this.#load.window.usualMs
        : (this.#prefetch.expectedAtMs(fetch.level, fetch.position, nowMs) ?? nowMs)
    const slackMs = Math.max(PATIENCE_MS, this.#load.window.usualMs)
    const pauseMs =
      fetch.state === 'local' ? LOCAL_PATIENCE_MS : Math.max(0, expectedAtMs - nowMs) + slackMs
    fetch.timer = setTimeout(() => {
      this.#table.enqueue(fetch, PRIORITY.demand)
      this.#pump()
    }, pauseMs).unref()
  }

  // Leaves ---------------------------------------------------------------------------------------

  #leafWaitOf(position: number): LeafWait {
    const wait = this.#leafWaits.get(position) ?? new LeafWait(position)
    this.#leafWaits.set(position, wait)
    return wait
  }

  /** Does what can be done now to get a leaf, or, when it is here, all that waited for it. */
  #advanceLeaf(wait: LeafWait): void {
    const place = this.#tree.find(wait.position * SPAN_BLOCKS)
    if (place.kind !== 'unknown') return this.#leafIsHere(wait)
    const top = this.#table.get(place.level, place.position)
    // What is below a node is seen when that is here, but need not wait for a round trip of it.
    if (top === undefined || IS_COMING.has(top.state)) this.#fetchPath(wait, place)
    if (wait.want === PRIORITY.demand) this.#speculate(wait)
  }

  #raise(fetch: ObjectFetch, want: Priority): void {
    if (want === PRIORITY.demand) this.#hurry(fetch)
    else if (fetch.state === 'queued') this.#table.enqueue(fetch, want)
  }

  /** Asks for the topmost node that is missing and, unless the local disk has it, for those below. */
  #fetchPath({ position, want }: LeafWait, { level: top }: UnknownNode): void {
    for (let level = top; level >= LEAF_LEVEL; level -= 1) {
      const at = nodeOver(position * SPAN_BLOCKS, level)
      const present = this.#table.get(level, at)
      if (present !== undefined) {
        if (want < present.want) this.#raise(present, want)
        continue
      }
      const fetch = createFetch({ level, position: at }, want)
      this.#table.add(fetch)
      this.#route(fetch)
      if (fetch.state === 'local') return
    }
  }

  /** Asks for chunks together with their leaf, when that is asked for before them. */
  #speculate({ position, waits }: LeafWait): void {
    const leaf = this.#table.get(LEAF_LEVEL, position)
    const askedAs = leaf?.state === 'asked' ? leaf.askedAs : leaf?.want
    const isBefore = leaf?.state === 'asked' || leaf?.state === 'queued'
    if (!isBefore || askedAs !== PRIORITY.demand) return
    const nowMs = performance.now()
    for (const { begin } of waits) {
      if (this.isWanted(CHUNK_LEVEL, begin) || this.#isSpeculatedNear(begin)) continue
      if (this.#prefetch.expectedAtMs(CHUNK_LEVEL, begin, nowMs) !== undefined) continue
      const fetch = createFetch({ level: CHUNK_LEVEL, position: begin }, PRIORITY.demand)
      this.#speculative.set(begin, fetch)
      this.#table.add(fetch)
      this.#table.enqueue(fetch, PRIORITY.demand)
    }
  }

  /** Whether a chunk was asked for that may be the one of this block: none reaches across a span. */
  #isSpeculatedNear(block: number): boolean {
    for (const other of this.#speculative.keys()) {
      const isOfSpan = nodeOver(other, LEAF_LEVEL) === nodeOver(block, LEAF_LEVEL)
      if (isOfSpan && Math.abs(other - block) < CHUNK_BLOCKS_MAX) return true
    }
    return false
  }

  #leafIsHere(wait: LeafWait): void {
    this.#leafWaits.delete(wait.position)
    this.#resolveSpeculative(wait.position)
    for (const each of wait.waits) this.#demand(each)
    for (const { first, end } of wait.ahead) this.#fetchAhead(first, end)
    const leaf = this.#tree.leaf(wait.position)
    for (const reader of wait.readers) reader.resolve(leaf)
  }

  /** Chunks that were asked for by a block get their own names. */
  #resolveSpeculative(leaf: number): void {
    for (const [block, fetch] of this.#speculative) {
      if (nodeOver(block, LEAF_LEVEL) !== leaf) continue
      this.#speculative.delete(block)
      this.#table.delete(fetch)
      const place = this.#tree.find(block)
      if (place.kind !== 'chunk') continue
      this.#book.rename(block, place.firstBlock)
      if (this.#tier.has(place.firstBlock) || this.isWanted(CHUNK_LEVEL, place.firstBlock)) continue
      fetch.position = place.firstBlock
      fetch.place = place
      this.#table.add(fetch)
    }
  }

  // Arrivals -------------------------------------------------------------------------------------

  #nodeCame(header: ObjectName & Encoding, payload: Uint8Array, source: Source): void {
    const { level, position } = header
    const fetch = this.#table.get(level, position)
    const hash = this.#tree.hashOf(level, position)
    if (hash === undefined || this.#tree.has(level, position)) {
      // Its parent came wrong: both are asked for again. Or it came twice.
      if (fetch !== undefined) this.#table.delete(fetch)
      return
    }
    if (hash !== 'zeros') {
      try {
        const encoded = withPayload(header)
        this.#tree.accept(level, position, this.#intake.decodeNode(encoded, payload))
        if (source === 'server') this.#options.diskCache?.keep(hash, { ...encoded, payload })
      } catch (error) {
        this.#failed(fetch, header, hash, error, source)
        return
      }
    }
    if (fetch !== undefined) this.#table.delete(fetch)
    this.#nodeIsHere(level, position)
  }

  #nodeIsHere(level: number, position: number): void {
    const leaf = level === LEAF_LEVEL ? this.#tree.leaf(position) : undefined
    if (leaf !== undefined) this.#publishZerosOf(leaf, position * SPAN_BLOCKS)
    for (const wait of this.#leafWaits.values()) {
      if (nodeOver(wait.position * SPAN_BLOCKS, level) === position) this.#advanceLeaf(wait)
    }
  }

  #publishZerosOf(leaf: LeafNode, begin: number): void {
    for (let index = 0; index < leaf.extentCount; index += 1) {
      const { firstBlock, blocks, hash } = leaf.extent(index)
      if (hash === undefined) this.#tier.publishZeros(begin + firstBlock, blocks)
    }
  }

  #chunkCame(header: ObjectHeader, payload: Uint8Array, isPushed: boolean): void {
    const { position } = header
    const fetch = this.#table.get(CHUNK_LEVEL, position)
    // The leaf may have been forgotten since.
    if (fetch?.place !== undefined)
      return this.#takeChunk(fetch, fetch.place, header, payload, isPushed)
    if (position >= this.#tree.blocks) return this.#liedAbout(header)
    const place = this.#tree.find(position)
    // Before its leaf, which came wrong: it cannot be proven, and is asked for again with the leaf.
    if (place.kind === 'unknown') return this.#forgetSpeculative(header)
    if (place.kind === 'zeros') return
    if (place.firstBlock !== position) return this.#liedAbout(header)
    if (!isPushed || this.#tier.has(position)) return // nobody wants it any more, or it came twice
    this.#takeChunk(createFetch(header, PRIORITY.prefetch, place), place, header, payload, true)
  }

  #takeChunk(
    fetch: ObjectFetch,
    place: ChunkPlace,
    header: ObjectHeader,
    payload: Uint8Array,
    isPushed: boolean,
  ): void {
    if (isPushed) fetch.arrival = 'guarded'
    try {
      this.#store(fetch, place, withPayload(header), payload, 'server')
    } catch (error) {
      this.#failed(fetch, header, place.hash, error, 'server')
    }
  }

  /** @throws {BootwireError} CHUNK_CORRUPT */
  #store(
    fetch: ObjectFetch,
    place: ChunkPlace,
    encoded: Encoded,
    payload: Uint8Array,
    source: Source,
  ): void {
    const arrival = this.#arrivalOf(fetch)
    if (arrival === undefined) this.#intake.check(place, encoded, payload)
    else if (!this.#intake.publish(place, encoded, payload, arrival)) {
      if (arrival === 'demanded') this.#hold({ fetch, place, encoded, payload, source })
      else this.#table.delete(fetch)
      return
    }
    if (source === 'server') this.#options.diskCache?.keep(place.hash, { ...encoded, payload })
    this.#table.delete(fetch, true)
    for (const wait of fetch.waits) tell(wait, place.firstBlock, place.blocks)
  }

  /** How a chunk is published; undefined when nobody wants it in the RAM tier. */
  #arrivalOf({ waits, arrival }: ObjectFetch): Arrival | undefined {
    if (waits.length > 0) return 'demanded'
    return arrival === 'guarded' && this.#prefetch.isOver ? 'readahead' : arrival
  }

  #hold(held: Held): void {
    const { fetch, payload } = held
    fetch.state = 'held'
    clearTimeout(fetch.timer)
    this.#held.push({ ...held, payload: Uint8Array.from(payload) })
    if (this.#held.length > 1) return
    void this.#tier.room().then(() => this.#takeHeld())
  }

  #takeHeld(): void {
    for (const { fetch, place, encoded, payload, source } of this.#held.splice(0)) {
      if (this.#isClosed || !this.#table.has(fetch)) continue
      try {
        this.#store(fetch, place, encoded, payload, source)
      } catch (error) {
        this.#failed(fetch, fetch, place.hash, error, source)
      }
    }
    this.#pump()
  }

  #localCame(fetch: ObjectFetch, hash: Uint8Array, object: CachedObject | undefined): void {
    this.#localBytes -= fetch.localAheadBytes
    fetch.localAheadBytes = 0
    if (this.#isClosed || !this.#table.has(fetch)) return
    const { level, position, place } = fetch
    if (object === undefined) {
      // Unless the server was asked already.
      if (fetch.state === 'local') this.#table.enqueue(fetch, fetch.want)
    } else if (place === undefined) {
      this.#nodeCame({ level, position, ...object }, object.payload, 'local')
    } else {
      try {
        this.#store(fetch, place, object, object.payload, 'local')
      } catch (error) {
        this.#failed(fetch, fetch, hash, error, 'local')
      }
    }
    this.#pump()
  }

  /** An object was not what the manifest says, or the server cannot read it. */
  #failed(
    fetch: ObjectFetch | undefined,
    name: ObjectName,
    hash: Uint8Array,
    error: unknown,
    source: Source,
  ): void {
    if (!(error instanceof BootwireError)) throw error
    this.#faults.add(name, error, performance.now())
    if (source === 'local') this.#options.diskCache?.forget(hash)
    if (fetch === undefined) return
    for (const keeper of fetch.keepers.splice(0)) keeper(false)
    const isNeeded = fetch.level !== CHUNK_LEVEL || fetch.waits.length > 0
    if (!isNeeded) return this.#table.delete(fetch)
    if (source === 'local') return this.#table.enqueue(fetch, fetch.want)
    fetch.failures += 1
    this.#askAgain(fetch)
  }

  #askAgain(fetch: ObjectFetch): void {
    const ms = pauseMs(fetch.failures)
    if (ms === 0) return this.#table.enqueue(fetch, fetch.want)
    clearTimeout(fetch.timer)
    fetch.state = 'paused'
    fetch.timer = setTimeout(() => {
      this.#table.enqueue(fetch, fetch.want)
      this.#pump()
    }, ms).unref()
  }

  /** The server named a chunk that does not begin there. Whoever waits asks again in time. */
  #liedAbout(header: ObjectHeader): void {
    const error = new BootwireError(
      'CHUNK_CORRUPT',
      `Cannot use chunk ${header.position}: no chunk begins there`,
    )
    this.#faults.add(header, error, performance.now())
  }

  #forgetSpeculative({ position, rawBytes }: ObjectHeader): void {
    const end = position + Math.max(1, Math.ceil(rawBytes / BLOCK_BYTES))
    for (const [block, fetch] of this.#speculative) {
      if (block < position || block >= end) continue
      this.#speculative.delete(block)
      this.#table.delete(fetch)
    }
  }

  #wasRead(firstBlock: number, atMs: number, how: FirstRead): void {
    this.#recorder.read(firstBlock, atMs, how)
    this.#prefetch.used(firstBlock)
  }

  // Asking ---------------------------------------------------------------------------------------

  /** Asks for as much as may be on its way. */
  #pump(): void {
    // What is asked for finds no room while something is held; and a listener may call back.
    if (this.#isClosed || this.#isPumping || this.#held.length > 0) return
    this.#isPumping = true
    const nowMs = performance.now()
    this.#sendQueue(PRIORITY.demand, nowMs)
    this.#sendQueue(PRIORITY.prefetch, nowMs)
    this.#book.flush()
    this.#prefetch.advance(nowMs)
    this.#sendQueue(PRIORITY.prefetch, nowMs)
    this.#sendQueue(PRIORITY.hydration, nowMs)
    this.#book.flush()
    this.#isPumping = false
  }

  #sendQueue(priority: Priority, nowMs: number): void {
    while (this.#isOpen && this.#book.mayAsk(priority)) {
      const fetch = this.#table.first(priority)
      if (fetch === undefined) return
      const bytes = usualBytes(fetch)
      if (priority !== PRIORITY.demand && !this.#load.hasRoom(bytes, nowMs)) return
      this.#table.shift(priority)
      fetch.state = 'asked'
      fetch.askedAs = priority
      fetch.askedAtMs = nowMs
      fetch.sweeps = 0
      const isSpeculative = fetch.level === CHUNK_LEVEL && fetch.place === undefined
      this.#book.ask(fetch, priority, { nowMs, usualBytes: bytes, isSpeculative })
    }
  }

  #sweep(): void {
    this.#load.sweep()
    for (const fetch of this.#table.values()) {
      if (fetch.state !== 'asked' && fetch.state !== 'awaited') continue
      const sweepsMax = fetch.want === PRIORITY.demand ? HURRIED_SWEEPS_MAX : UNHURRIED_SWEEPS_MAX
      fetch.sweeps += 1
      if (fetch.sweeps > sweepsMax) this.#table.enqueue(fetch, fetch.want)
    }
    this.#pump()
  }

  #sendTrace(): void {
    if (!this.#isOpen || this.#trace.length === 0) return
    this.#options.transport.sendTrace(this.#trace)
    this.#trace = []
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

function asRaw(payload: Uint8Array): CachedObject {
  return { encoding: CHUNK_ENCODING.raw, rawBytes: payload.length, payload }
}

function usualBytes({ place }: ObjectFetch): number {
  if (place === undefined) return USUAL_NODE_BYTES
  return Math.ceil(place.blocks * BLOCK_BYTES * USUAL_SHRINKING)
}

function closedError(): Error {
  return new DOMException('The vDisk was closed', 'AbortError')
}
