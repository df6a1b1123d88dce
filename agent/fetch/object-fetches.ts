/**
 * All objects that are wanted and not here. Each takes the way that is nearest: it is read from the local
 * disk, awaited where its push is granted, or else asked for of the server; and changes over to that when
 * the nearer way fails or takes longer than somebody waits.
 */
import { type ObjectName, PRIORITY, type Priority } from '#shared/wire/frame.ts'
import type { DiskCache } from '../disk-cache/disk-cache.ts'
import { FetchTable } from './fetch-table.ts'
import { type LocalListener, LocalReader } from './local-reader.ts'
import { type ObjectFetch, pauseMs } from './object-fetch.ts'
import type { PathWindow } from './path-window.ts'
import type { PushGrants } from './push-grants.ts'
import type { ChunkPlace, VersionTree } from './version-tree.ts'

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

export interface ObjectFetchesParts {
  readonly tree: VersionTree
  readonly diskCache: DiskCache | undefined
  readonly grants: PushGrants
  readonly window: PathWindow
  /** What the local disk has read. */
  readonly onLocal: LocalListener
  /** More may be asked for, or be read from the local disk. */
  readonly onReady: () => void
}

export class ObjectFetches {
  readonly #parts: ObjectFetchesParts
  readonly #table = new FetchTable()
  readonly #local: LocalReader | undefined
  #localAheadBytes = 0

  constructor(parts: ObjectFetchesParts) {
    this.#parts = parts
    const { diskCache } = parts
    this.#local = diskCache && new LocalReader(diskCache, (...came) => this.#localCame(...came))
  }

  get size(): number {
    return this.#table.size
  }

  /** Bytes being read from the local disk ahead of the kernel. */
  get localAheadBytes(): number {
    return this.#localAheadBytes
  }

  /** Whether somebody waits for any of them. */
  get isHurried(): boolean {
    for (const { want } of this.#table.values()) if (want === PRIORITY.demand) return true
    return false
  }

  get(level: number, position: number): ObjectFetch | undefined {
    return this.#table.get(level, position)
  }

  isWanted(level: number, position: number): boolean {
    return this.#table.get(level, position) !== undefined
  }

  has(fetch: ObjectFetch): boolean {
    return this.#table.has(fetch)
  }

  // How they begin ---------------------------------------------------------------------------------

  /** Adds one that is not wanted yet, and sends it the nearest way. */
  begin(fetch: ObjectFetch): void {
    this.#table.add(fetch)
    const { level, position, place } = fetch
    const { tree, diskCache } = this.#parts
    const hash = place?.hash ?? tree.hashOf(level, position)
    if (hash instanceof Uint8Array && diskCache?.has(hash) === true) this.#readLocal(fetch, hash)
    else if (this.#parts.grants.has(level, position)) this.#wait(fetch, 'awaited')
    else this.ask(fetch)
  }

  /** Adds one that is not wanted yet, to be asked for of the server. */
  beginAsking(fetch: ObjectFetch): void {
    this.#table.add(fetch)
    this.ask(fetch)
  }

  // What they wait for -----------------------------------------------------------------------------

  /** Somebody wants with more hurry what was wanted before. */
  raise(fetch: ObjectFetch, want: Priority): void {
    if (want >= fetch.want) return
    if (fetch.state === 'queued') return this.ask(fetch, want)
    if (want !== PRIORITY.demand) return
    fetch.want = want
    if (fetch.state !== 'held' && fetch.state !== 'paused') this.#beginPatience(fetch)
  }

  /** It is to be asked for of the server, whatever it waited for. */
  ask(fetch: ObjectFetch, want: Priority = fetch.want): void {
    this.#table.enqueue(fetch, want)
  }

  /** It came wrong once more: it is asked for again, at once or after a pause. */
  askAgain(fetch: ObjectFetch): void {
    fetch.failures += 1
    const ms = pauseMs(fetch.failures)
    if (ms === 0) return this.ask(fetch)
    fetch.state = 'paused'
    this.#askAfter(fetch, ms)
  }

  /** It came, and waits for room. */
  hold(fetch: ObjectFetch): void {
    clearTimeout(fetch.timer)
    delete fetch.timer
    fetch.state = 'held'
  }

  /** The server leaves it out of its pushes. */
  notComing({ level, position }: ObjectName): void {
    const fetch = this.#table.get(level, position)
    if (fetch?.state === 'awaited') this.ask(fetch)
  }

  /** A chunk that was asked for by one of its blocks is called by its own name. */
  rename(fetch: ObjectFetch, place: ChunkPlace): void {
    this.#table.remove(fetch)
    fetch.position = place.firstBlock
    fetch.place = place
    this.#table.add(fetch)
  }

  // What is asked for ------------------------------------------------------------------------------

  /** The one to be asked for next. */
  next(priority: Priority): ObjectFetch | undefined {
    return this.#table.first(priority)
  }

  queueLength(priority: Priority): number {
    return this.#table.queueLength(priority)
  }

  /** The next one was asked for. */
  asked(fetch: ObjectFetch, priority: Priority, nowMs: number): void {
    this.#table.shift(priority)
    fetch.state = 'asked'
    fetch.askedAs = priority
    fetch.askedAtMs = nowMs
    fetch.sweeps = 0
  }

  /** The connection is lost: what it should have brought is asked for on the next one. */
  lost(): void {
    for (const fetch of this.#table.values()) {
      if (fetch.state === 'asked' || fetch.state === 'awaited') this.ask(fetch)
    }
  }

  /** Called now and then. */
  sweep(): void {
    for (const fetch of this.#table.values()) {
      if (fetch.state !== 'asked' && fetch.state !== 'awaited') continue
      const isHurried = fetch.want === PRIORITY.demand
      fetch.sweeps += 1
      if (fetch.sweeps > (isHurried ? HURRIED_SWEEPS_MAX : UNHURRIED_SWEEPS_MAX)) this.ask(fetch)
    }
  }

  // How they end -----------------------------------------------------------------------------------

  /** It is here, or nobody wants it. Who wanted it for the local disk is told whether it `isHere`. */
  end(fetch: ObjectFetch, isHere = false): void {
    this.#table.remove(fetch)
    for (const keeper of fetch.keepers.splice(0)) keeper(isHere)
  }

  close(error: Error): void {
    for (const fetch of this.#table.values()) {
      this.end(fetch)
      for (const { waiter } of fetch.waits) waiter.onClosed(error)
    }
  }

  // Time -------------------------------------------------------------------------------------------

  #wait(fetch: ObjectFetch, state: 'awaited' | 'local'): void {
    fetch.state = state
    if (fetch.want === PRIORITY.demand) this.#beginPatience(fetch)
  }

  /** Asks the server after all when what is on its way takes too long. */
  #beginPatience(fetch: ObjectFetch): void {
    if (fetch.timer !== undefined) return
    if (fetch.state === 'local') return this.#askAfter(fetch, LOCAL_PATIENCE_MS)
    const { usualMs } = this.#parts.window
    const nowMs = performance.now()
    const leftMs = Math.max(0, this.#expectedAtMs(fetch, nowMs) - nowMs)
    this.#askAfter(fetch, leftMs + Math.max(PATIENCE_MS, usualMs))
  }

  #expectedAtMs({ state, askedAtMs, level, position }: ObjectFetch, nowMs: number): number {
    const { window, grants } = this.#parts
    if (state === 'asked') return askedAtMs + window.usualMs
    return grants.expectedAtMs(level, position, nowMs) ?? nowMs
  }

  #askAfter(fetch: ObjectFetch, ms: number): void {
    clearTimeout(fetch.timer)
    fetch.timer = setTimeout(() => {
      this.ask(fetch)
      this.#parts.onReady()
    }, ms).unref()
  }

  // The local disk -----------------------------------------------------------------------------------

  #readLocal(fetch: ObjectFetch, hash: Uint8Array): void {
    this.#localAheadBytes += fetch.localAheadBytes
    this.#wait(fetch, 'local')
    this.#local?.read(fetch, hash)
  }

  #localCame(...[fetch, hash, object]: Parameters<LocalListener>): void {
    this.#localAheadBytes -= fetch.localAheadBytes
    if (this.#table.has(fetch)) this.#parts.onLocal(fetch, hash, object)
    this.#parts.onReady()
  }
}
