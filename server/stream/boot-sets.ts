/**
 * The boot sets of the versions that are in use. A set is made from the version's merged traces when
 * its first session opens it, and made anew when they say something else; sessions that have the old
 * one keep it, since they name its entries by number.
 *
 * Its file is written behind everybody's back: until then, and wherever no file can be, pieces come
 * from the store.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Log } from '#server/log.ts'
import type { ChunkStore, VersionReader } from '#server/store/chunk-store.ts'
import { planBootList } from '#server/traces/boot-list.ts'
import type { ListSource } from '#server/traces/merge-traces.ts'
import type { TraceFiles } from '#server/traces/trace-files.ts'
import type { Traces } from '#server/traces/traces.ts'
import { CHUNK_LEVEL } from '#shared/wire/frame.ts'
import { BootSet } from './boot-set.ts'
import { BootSetFile } from './boot-set-file.ts'
import { BootSetLayout } from './boot-set-layout.ts'
import { PieceCache } from './piece-cache.ts'
import { SerialQueue } from './serial-queue.ts'
import type { SlabPool } from './slab-pool.ts'

/**
 * Traces of a class room come within a minute: one new set for all of them. While nothing was recorded
 * on this version yet, the first boot is worth a new set at once.
 */
const REFRESH_DELAY_MS = 20_000

/** A list that differs by less is not worth writing a boot set anew. */
const CHANGE_MIN = 0.01

/** Sets that nobody uses are kept open for those who come next: some 300 KB each. */
const IDLE_SETS_MAX = 16

const FILE_NAME = 'boot-set'

export interface BootSetsOptions {
  readonly traces: Pick<Traces, 'list' | 'changes'>
  readonly files: Pick<TraceFiles, 'folderOf'>
  readonly store: ChunkStore
  readonly slabs: SlabPool
  readonly log: Log
  readonly refreshDelayMs?: number
}

/** One session's share of a boot set. */
export interface BootSetLease {
  readonly set: BootSet
  /** Only the first call counts. */
  release(): void
}

interface SharedSet {
  readonly set: BootSet
  readonly source: ListSource
  leases: number
  /** Another took its place: closed when its last session ends. */
  isOld: boolean
}

/** A version that was opened. */
interface Known {
  readonly versionId: string
  /** Its newest set; undefined where nothing is known of its boots. */
  shared: SharedSet | undefined
  /** Settles when `shared` says what the traces say, as far as new sessions should wait for that. */
  ready: Promise<void>
  refresh: NodeJS.Timeout | undefined
}

export class BootSets {
  readonly #options: BootSetsOptions
  readonly #cache = new PieceCache()
  /** Least recently opened first. */
  readonly #known = new Map<string, Known>()
  /** One at a time: each reads a boot's worth of chunks. */
  readonly #background: SerialQueue
  readonly #unsubscribe: () => void
  #isClosed = false

  constructor(options: BootSetsOptions) {
    this.#options = options
    this.#background = new SerialQueue((error) => {
      if (!this.#isClosed) options.log.error({ err: error }, 'cannot make a boot set')
    })
    this.#unsubscribe = options.traces.changes.subscribe((versionId) => this.#changed(versionId))
  }

  /** Returns undefined when nothing is known of the version's boots. Never rejects. */
  async acquire(reader: VersionReader): Promise<BootSetLease | undefined> {
    const { versionId } = reader
    const known = this.#known.get(versionId) ?? this.#add(reader)
    this.#known.delete(versionId)
    this.#known.set(versionId, known)
    await known.ready
    this.#closeIdle()
    return known.shared && this.#lease(known.shared)
  }

  /** Settles when nothing is being written. */
  idle(): Promise<void> {
    return new Promise((resolve) => this.#background.add(() => resolve()))
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#unsubscribe()
    for (const { refresh } of this.#known.values()) clearTimeout(refresh)
    await this.idle()
    for (const { shared } of this.#known.values()) await shared?.set.close()
    this.#known.clear()
  }

  #lease(shared: SharedSet): BootSetLease {
    let held = true
    shared.leases += 1
    return {
      set: shared.set,
      release: () => {
        if (!held) return
        held = false
        shared.leases -= 1
        if (shared.isOld && shared.leases === 0) this.#discard(shared)
      },
    }
  }

  #add(reader: VersionReader): Known {
    const { versionId } = reader
    const known: Known = {
      versionId,
      shared: undefined,
      refresh: undefined,
      ready: Promise.resolve(),
    }
    known.ready = this.#open(known, reader)
    return known
  }

  async #open(known: Known, reader: VersionReader): Promise<void> {
    try {
      const shared = await this.#plan(reader)
      if (shared === undefined) return
      known.shared = shared
      const path = this.#pathOf(known.versionId)
      const file = path === undefined ? undefined : await BootSetFile.open(path, shared.set.layout)
      if (file === undefined) this.#background.add(() => this.#write(known.versionId, shared))
      else await shared.set.useFile(file)
    } catch (error) {
      this.#options.log.error({ err: error, versionId: known.versionId }, 'cannot use a boot list')
    }
  }

  async #plan(reader: VersionReader): Promise<SharedSet | undefined> {
    const { versionId } = reader
    const merged = await this.#options.traces.list(versionId)
    if (merged === undefined) return undefined
    const positions = merged.chunks.map(({ position }) => position)
    const entries = await planBootList(positions, reader)
    if (entries.length === 0) return undefined
    const { slabs, log } = this.#options
    const set = new BootSet({
      layout: new BootSetLayout(entries),
      slabs,
      cache: this.#cache,
      onDamaged: (error) => {
        log.warn({ err: error, versionId }, 'a boot set is damaged and is made anew')
        this.#background.add(() => this.#write(versionId, shared))
      },
    })
    const shared: SharedSet = { set, source: merged.source, leases: 0, isOld: false }
    return shared
  }

  async #write(versionId: string, shared: SharedSet): Promise<void> {
    const { store, slabs, files } = this.#options
    const [path, folder] = [this.#pathOf(versionId), files.folderOf(versionId)]
    if (path === undefined || folder === undefined || shared.isOld || this.#isClosed) return
    const { set } = shared
    await using opened = new AsyncDisposableStack()
    const reader = opened.adopt(await store.openVersion(versionId), (reader) => reader.close())
    const slab = opened.adopt(slabs.take(), (slab) => slab.release())
    await mkdir(folder, { recursive: true })
    await BootSetFile.write(path, set.layout, (piece) => {
      if (this.#isClosed) throw new Error('the server stops')
      return set.assemble(piece, reader, slab.bytes)
    })
    const file = await BootSetFile.open(path, set.layout)
    if (file !== undefined) await set.useFile(file)
  }

  #changed(versionId: string): void {
    const known = this.#known.get(versionId)
    if (known === undefined || known.refresh !== undefined || this.#isClosed) return
    const { refreshDelayMs = REFRESH_DELAY_MS } = this.#options
    if (known.shared?.source !== 'recorded') {
      known.ready = known.ready.then(() => this.#refresh(known))
      return
    }
    known.refresh = setTimeout(() => {
      known.refresh = undefined
      this.#background.add(() => this.#refresh(known))
    }, refreshDelayMs).unref()
  }

  /** Never rejects. */
  async #refresh(known: Known): Promise<void> {
    const { store, log } = this.#options
    const { versionId, shared: before } = known
    try {
      if (this.#isClosed || !(await store.listVersions()).includes(versionId)) return
      const reader = await store.openVersion(versionId)
      try {
        const shared = await this.#plan(reader)
        if (shared === undefined || (before && isNearlySame(before, shared))) return
        known.shared = shared
        if (before !== undefined) this.#retire(before)
        this.#background.add(() => this.#write(versionId, shared))
      } finally {
        await reader.close()
      }
    } catch (error) {
      log.error({ err: error, versionId }, 'cannot make a boot list anew')
    }
  }

  #closeIdle(): void {
    const idle = [...this.#known.values()].filter(({ shared }) => (shared?.leases ?? 0) === 0)
    for (const { versionId, shared, refresh } of idle.slice(0, -IDLE_SETS_MAX)) {
      clearTimeout(refresh)
      this.#known.delete(versionId)
      if (shared !== undefined) this.#retire(shared)
    }
  }

  #retire(shared: SharedSet): void {
    shared.isOld = true
    if (shared.leases === 0) this.#discard(shared)
  }

  #discard({ set }: SharedSet): void {
    set.close().catch((error: unknown) => {
      this.#options.log.error({ err: error }, 'cannot close a boot set')
    })
  }

  #pathOf(versionId: string): string | undefined {
    const folder = this.#options.files.folderOf(versionId)
    return folder && join(folder, FILE_NAME)
  }
}

/** By the chunks; their order changes little by little and does not matter much. */
function isNearlySame(before: SharedSet, after: SharedSet): boolean {
  if (before.source !== after.source) return false
  const chunksOf = ({ set }: SharedSet) =>
    set.layout.entries.filter(({ level }) => level === CHUNK_LEVEL)
  const [old, next] = [chunksOf(before), chunksOf(after)]
  const isOld = (position: number) => before.set.layout.indexOf(CHUNK_LEVEL, position) >= 0
  const common = next.filter(({ position }) => isOld(position)).length
  return next.length + old.length - 2 * common < CHANGE_MIN * next.length
}
