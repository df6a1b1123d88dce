/**
 * Fetches what is not in the RAM tier: from the local disk if that has it, else from the server. Each
 * object is asked for once however many wait for it; what somebody waits for goes before what is
 * prefetched, and that before hydration. What comes wrong is asked for again without end: a root gets
 * no I/O error because a disk or a link is bad, and never a byte that was not proven.
 *
 * This file only puts the parts together and hands on what the transport says. Who wants objects
 *
 *     BlockDemand   BlockReadahead   BootPrefetch   BackgroundFetches (hydration)
 *
 * finds a block through its leaf (LeafPaths), and begins fetches (ObjectFetches), which the Pump asks for;
 * Arrivals takes what comes, and ends them. Main thread only.
 */
import type { VersionRoot } from '#shared/manifest/version-root.ts'
import {
  type BootListEntry,
  CHUNK_LEVEL,
  type ObjectHeader,
  type TraceEntry,
} from '#shared/wire/frame.ts'
import type { DiskCache } from '../disk-cache/disk-cache.ts'
import type { RamTier } from '../ram-tier/ram-tier.ts'
import { ReadClock } from '../ram-tier/read-clock.ts'
import { Arrivals } from './arrivals.ts'
import { BackgroundFetches } from './background-fetches.ts'
import { BlockDemand } from './block-demand.ts'
import { BlockReadahead } from './block-readahead.ts'
import type { BlockWaiter } from './block-wait.ts'
import { BootPrefetch } from './boot-prefetch.ts'
import { BootRecorder, type FirstRead } from './boot-recorder.ts'
import { closedError } from './closed-error.ts'
import { FaultLog, type ObjectFault } from './fault-log.ts'
import { LeafPaths } from './leaf-paths.ts'
import type { BackgroundFetcher } from './local-copy.ts'
import { ObjectFetches } from './object-fetches.ts'
import type { ObjectListener, ObjectTransport } from './object-transport.ts'
import { PathLoad } from './path-load.ts'
import type { PathWindow } from './path-window.ts'
import { Pump } from './pump.ts'
import { PushGrants } from './push-grants.ts'
import { PushUse } from './push-use.ts'
import { RequestBook } from './request-book.ts'
import { VersionTree } from './version-tree.ts'

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

export class Fetcher implements ObjectListener {
  readonly #options: FetcherOptions
  readonly #tree: VersionTree
  readonly #clock: ReadClock
  readonly #load: PathLoad
  readonly #book: RequestBook
  readonly #fetches: ObjectFetches
  readonly #leafPaths: LeafPaths
  readonly #arrivals: Arrivals
  readonly #demand: BlockDemand
  readonly #readahead: BlockReadahead
  readonly #prefetch: BootPrefetch
  readonly #background: BackgroundFetches
  readonly #pump: Pump
  readonly #recorder = new BootRecorder()
  readonly #pushUse = new PushUse()
  readonly #faults: FaultLog
  readonly #sweepTimer: NodeJS.Timeout
  #isClosed = false
  #trace: TraceEntry[] = []
  #lastDemandMs = Number.NEGATIVE_INFINITY
  #chunksReceived = 0
  #chunkBytesReceived = 0

  constructor(options: FetcherOptions) {
    const { root, tier, transport, diskCache, onFault } = options
    this.#options = options
    const tree = new VersionTree(root, options.leafMemoryBytesMax)
    const load = new PathLoad(options.pathWindow)
    const book = new RequestBook(transport, load)
    const grants = new PushGrants(load)
    const pump = () => this.#pump.run()
    const fetches = new ObjectFetches({
      tree,
      diskCache,
      grants,
      window: load.window,
      onLocal: (...came) => this.#arrivals.fromDisk(...came),
      onReady: pump,
    })
    const leafPaths = new LeafPaths({ tree, tier, fetches, grants, book })
    const below = { tree, tier, fetches, leafPaths, grants, diskCache }
    this.#tree = tree
    this.#load = load
    this.#book = book
    this.#fetches = fetches
    this.#leafPaths = leafPaths
    this.#clock = new ReadClock(tier.memory.beganAtMs)
    this.#faults = new FaultLog(onFault)
    this.#arrivals = new Arrivals({
      ...below,
      faults: this.#faults,
      mayGuard: () => !this.#prefetch.isOver,
      onRoom: pump,
    })
    this.#demand = new BlockDemand({
      ...below,
      onRead: (...read) => this.#wasRead(...read),
      hasten: (firstBlock) => this.#prefetch.hasten(firstBlock, performance.now()),
    })
    this.#readahead = new BlockReadahead({
      ...below,
      isForeseen: (firstBlock) => this.#prefetch.lists(firstBlock),
    })
    this.#prefetch = new BootPrefetch({ ...below, load, push: (ranges) => transport.push(ranges) })
    this.#background = new BackgroundFetches({
      ...below,
      isPrefetching: () => this.#prefetch.isActive,
      lastDemandMs: () => this.#lastDemandMs,
      pump,
    })
    this.#pump = new Pump({
      fetches,
      book,
      load,
      isHeldUp: () => this.#arrivals.isHeldUp,
      advanceBoot: (nowMs) => this.#prefetch.advance(nowMs),
    })
    if (!options.isBoot) this.endBoot()
    tier.onFirstRead((firstBlock, atMs) => this.#wasRead(firstBlock, atMs, 'hit'))
    this.#sweepTimer = setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS).unref()
    transport.listen(this)
  }

  /** For who fills the local disk. */
  get background(): BackgroundFetcher {
    return this.#background
  }

  get unfinished(): Unfinished {
    return {
      objects: this.#fetches.size,
      leaves: this.#leafPaths.size,
      answers: this.#book.answersExpected,
      bytesOnTheWay: this.#load.bytes,
    }
  }

  stats(): FetcherStats {
    const { hit: hits, late, miss: misses } = this.#recorder.counts
    const { pushedBytes, unusedBytes } = this.#pushUse
    return {
      chunksReceived: this.#chunksReceived,
      chunkBytesReceived: this.#chunkBytesReceived,
      objectsCorrupt: this.#faults.total,
      prefetch: { hits, late, misses, pushedBytes, unusedBytes },
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
    this.#demand.add({ begin: firstBlock, end: endBlock, waiter, wantedAtMs })
    this.#pump.run()
  }

  /** Says that blocks were read that were not here, so that what follows is fetched ahead. */
  readAhead(firstBlock: number, endBlock: number): void {
    if (!this.#options.readahead || this.#isClosed) return
    this.#readahead.missed(firstBlock, endBlock)
    this.#pump.run()
  }

  /** Hears of what was read in shared memory since the last time. */
  harvest(): void {
    this.#options.tier.harvest()
    this.#pump.run()
  }

  /** The boot is over: tells the server what it read, and prefetches no more of its list. */
  endBoot(): void {
    this.#options.tier.harvest()
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
    clearInterval(this.#sweepTimer)
    this.#pump.close()
    this.#background.close()
    const error = closedError()
    this.#fetches.close(error)
    this.#leafPaths.close(error)
  }

  // What the transport says ----------------------------------------------------------------------

  onOpen(): void {
    this.#pump.open()
    this.#sendTrace()
    this.#pump.run()
  }

  onLost(): void {
    this.#pump.lost()
    this.#book.clear()
    this.#prefetch.onLost()
    this.#load.reset()
    this.#fetches.lost()
  }

  onBootList(entries: readonly BootListEntry[], pushed: number): void {
    if (this.#isClosed) return
    this.#prefetch.start(entries, pushed)
    this.#pump.run()
  }

  onObject(received: ObjectHeader, payload: Uint8Array): void {
    if (this.#isClosed) return
    const nowMs = performance.now()
    const header = this.#named(received)
    const isAsked = this.#book.answered(header, nowMs)
    const isPushed = this.#prefetch.arrived(header, isAsked, nowMs)
    if (isPushed) this.#pushUse.came(header, this.#isUsed(header.position))
    if (header.level === CHUNK_LEVEL) {
      this.#chunksReceived += 1
      this.#chunkBytesReceived += payload.length
    }
    this.#arrivals.fromServer(header, payload, isPushed)
    this.#pump.run()
  }

  /** An answer without a payload may name the block that was asked for; all others, the first. */
  #named(header: ObjectHeader): ObjectHeader {
    const { level, position, storedBytes } = header
    if (level !== CHUNK_LEVEL || storedBytes > 0 || position >= this.#tree.blocks) return header
    const place = this.#tree.find(position)
    return place.kind === 'chunk' ? { ...header, position: place.firstBlock } : header
  }

  #isUsed(firstBlock: number): boolean {
    const isWaitedFor = (this.#fetches.get(CHUNK_LEVEL, firstBlock)?.waits.length ?? 0) > 0
    return isWaitedFor || this.#recorder.has(firstBlock)
  }

  #wasRead(firstBlock: number, atMs: number, how: FirstRead): void {
    this.#recorder.read(firstBlock, atMs, how)
    this.#pushUse.used(firstBlock)
  }

  #sweep(): void {
    this.#load.sweep()
    this.#fetches.sweep()
    this.#pump.run()
  }

  #sendTrace(): void {
    if (!this.#pump.isOpen || this.#trace.length === 0) return
    this.#options.transport.sendTrace(this.#trace)
    this.#trace = []
  }
}
