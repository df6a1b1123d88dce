/**
 * What the boots of each version read: taken from clients, kept, carried over to the next version,
 * guessed for the first one, and merged into the list that the next boot is sent.
 *
 * All of it only makes boots faster: whatever fails here is told to the log and nobody else.
 */
import type { Log } from '#server/log.ts'
import { ChangeFeed } from '#server/state/change-feed.ts'
import type { ChunkStore, ChunkTable, VersionReader } from '#server/store/chunk-store.ts'
import type { TraceEntry } from '#shared/wire/frame.ts'
import { BOOT_LIST_ENTRIES_MAX } from '#shared/wire/limits.ts'
import type { BootTrace } from './boot-trace.ts'
import { CarryOver } from './carry-over.ts'
import { compareVersion, readRootFiles, type VersionFacts } from './compared-version.ts'
import { guessBoot } from './first-guess.ts'
import {
  byModel,
  countingTraces,
  type ListSource,
  type MergedChunk,
  type MergedList,
  mergeTraces,
} from './merge-traces.ts'
import type { TraceFiles } from './trace-files.ts'

/** Boots kept per version and model: enough that half of them tell what is usual. */
export const TRACES_PER_MODEL_MAX = 8

/** Models kept per version; the one whose last boot is longest ago gives way. */
export const MODELS_MAX = 16

/** Under this name a guess is kept. */
const GUESS_ID = '0'

export interface TracesOptions {
  readonly files: TraceFiles
  readonly store: ChunkStore
  readonly now: () => number
  readonly log: Log
}

export interface RecordedBoot {
  readonly bootId: string
  readonly clientId: string
  /** Whether an administrator has decided about the client. */
  readonly isConfirmed: boolean
  readonly model: string
  /** As the agent sent them. */
  readonly entries: readonly TraceEntry[]
}

/** For people: what is known of a version's boots. */
export interface TracesView {
  readonly source: ListSource | 'none'
  readonly boots: readonly { readonly model: string; readonly count: number }[]
  readonly chunks: readonly (MergedChunk & {
    readonly blocks: number
    readonly storedBytes: number
  })[]
}

export class Traces {
  /** Emits the id of a version whose list may be another now. */
  readonly changes = new ChangeFeed<string>()
  readonly #options: TracesOptions
  /** Changes of one version's files, one after the other. */
  readonly #work = new Map<string, Promise<void>>()

  constructor(options: TracesOptions) {
    this.#options = options
  }

  /** Keeps what a boot of the version read. Entries that are no chunks of it are left out. */
  async record(reader: VersionReader, boot: RecordedBoot): Promise<void> {
    const { now, log } = this.#options
    const { bootId, entries } = boot
    const { versionId } = reader
    const kept = chunksOnly(entries, reader.chunks)
    const strangeCount = entries.length - kept.length
    if (strangeCount > 0) {
      log.warn({ versionId, bootId, strangeCount }, 'a trace names what is no chunk, or one twice')
    }
    if (kept.length === 0) return
    await this.#change(versionId, async (traces) => {
      const trace: BootTrace = { ...boot, origin: 'recorded', recordedAtMs: now(), entries: kept }
      await this.#keep(versionId, [trace])
      await this.#prune(versionId, [...traces.filter((it) => !isSame(it, trace)), trace])
    })
  }

  /** Returns what the next boot is expected to read; undefined when nothing is known. */
  async list(versionId: string): Promise<MergedList | undefined> {
    await this.#work.get(versionId)
    return await mergeTraces(await this.#options.files.load(versionId))
  }

  /**
   * Makes a new version's first boot a fast one: by the traces of the newest version before it that has
   * some (`before`, newest first), else by a look at its files.
   */
  async prepare(version: VersionFacts, before: readonly VersionFacts[]): Promise<void> {
    const { versionId } = version
    try {
      for (const predecessor of before) {
        if (predecessor.versionId === versionId) continue
        if (await this.#carryOver(predecessor, version)) return
      }
      await this.#guess(version)
    } catch (error) {
      this.#options.log.error({ err: error, versionId }, 'cannot foresee the boots of a version')
    }
  }

  async view(versionId: string, chunks: ChunkTable): Promise<TracesView> {
    const traces = await this.#options.files.load(versionId)
    const merged = await mergeTraces(traces)
    if (merged === undefined) return { source: 'none', boots: [], chunks: [] }
    const models = byModel(countingTraces(traces))
    return {
      source: merged.source,
      boots: [...models].map(([model, boots]) => ({ model, count: boots.length })),
      chunks: merged.chunks.flatMap((chunk) => {
        const index = chunks.indexAt(chunk.position)
        if (index < 0) return []
        return [{ ...chunk, blocks: chunks.blocks(index), storedBytes: chunks.storedBytes(index) }]
      }),
    }
  }

  /** Forgets what the version's boots read; they are foreseen again as those of a new one. */
  async forget(version: VersionFacts, before: readonly VersionFacts[]): Promise<void> {
    await this.removeVersion(version.versionId)
    await this.prepare(version, before)
  }

  async removeVersion(versionId: string): Promise<void> {
    await this.#work.get(versionId)
    await this.#options.files.removeVersion(versionId)
    this.changes.emit(versionId)
  }

  /** Removes the traces of versions that are not in the store any more. */
  async sweep(): Promise<void> {
    const { files, store, log } = this.#options
    try {
      const known = new Set(await store.listVersions())
      for (const versionId of await files.listVersions()) {
        if (!known.has(versionId)) await this.removeVersion(versionId)
      }
    } catch (error) {
      log.error({ err: error }, 'cannot remove the traces of versions that are gone')
    }
  }

  /** Returns false when there is nothing to carry over. */
  async #carryOver(from: VersionFacts, to: VersionFacts): Promise<boolean> {
    const { files, store, log } = this.#options
    const traces = countingTraces(await files.load(from.versionId))
    if (traces.every(({ origin }) => origin === 'guessed')) return false
    if (!(await store.listVersions()).includes(from.versionId)) return false
    await using opened = new AsyncDisposableStack()
    const open = async (versionId: string) =>
      opened.adopt(await store.openVersion(versionId), (reader) => reader.close())
    const [old, next] = [await open(from.versionId), await open(to.versionId)]
    const read = new Set(
      traces.flatMap(({ entries }) => entries.map((it) => old.chunks.indexAt(it.position))),
    )
    read.delete(-1)
    const carryOver = await CarryOver.create(
      await compareVersion(from, old, log),
      await compareVersion(to, next, log),
      read,
    )
    const carried = traces.map((trace): BootTrace => {
      return { ...trace, origin: 'carried', entries: carriedEntries(trace, carryOver, old, next) }
    })
    await this.#change(to.versionId, () => this.#keep(to.versionId, carried))
    log.info({ versionId: to.versionId, from: from.versionId }, 'traces were carried over')
    return true
  }

  async #guess(version: VersionFacts): Promise<void> {
    const { store, log, now } = this.#options
    const { versionId } = version
    const reader = await store.openVersion(versionId)
    try {
      const root = await readRootFiles(version, reader, log)
      if (root === undefined) return
      const positions = await guessBoot(root, reader.chunks, version.kernel?.release)
      const entries = positions.map((position) => ({ position, atMs: 0 }))
      const guess: BootTrace = {
        origin: 'guessed',
        bootId: GUESS_ID,
        model: '',
        clientId: '',
        isConfirmed: false,
        recordedAtMs: now(),
        entries,
      }
      if (entries.length > 0) await this.#change(versionId, () => this.#keep(versionId, [guess]))
    } finally {
      await reader.close()
    }
  }

  async #keep(versionId: string, traces: readonly BootTrace[]): Promise<void> {
    for (const trace of traces) await this.#options.files.save(versionId, trace)
  }

  /** Removes what counts no more. */
  async #prune(versionId: string, traces: readonly BootTrace[]): Promise<void> {
    const models = [...byModel(countingTraces(traces)).values()]
      .map((boots) => lastOfEachClient(boots))
      .sort(([a], [b]) => (b?.recordedAtMs ?? 0) - (a?.recordedAtMs ?? 0))
    const kept = new Set(
      models.slice(0, MODELS_MAX).flatMap((boots) => boots.slice(0, TRACES_PER_MODEL_MAX)),
    )
    for (const trace of traces) {
      if (!kept.has(trace)) await this.#options.files.remove(versionId, trace)
    }
  }

  async #change(versionId: string, change: (traces: BootTrace[]) => Promise<void>): Promise<void> {
    const before = this.#work.get(versionId) ?? Promise.resolve()
    const changing = before.then(async () => change(await this.#options.files.load(versionId)))
    const settled = changing.catch(() => undefined) // whoever asked is told
    this.#work.set(versionId, settled)
    try {
      await changing
    } finally {
      if (this.#work.get(versionId) === settled) this.#work.delete(versionId)
    }
    this.changes.emit(versionId)
  }
}

/** Newest first. One machine that boots again and again speaks for itself only. */
function lastOfEachClient(boots: readonly BootTrace[]): BootTrace[] {
  const newestFirst = boots.toSorted((a, b) => b.recordedAtMs - a.recordedAtMs)
  const clients = new Set<string>()
  return newestFirst.filter(({ clientId }) => {
    const isFirst = !clients.has(clientId)
    clients.add(clientId)
    return isFirst
  })
}

/** Each chunk once, where it was read first. */
function chunksOnly(entries: readonly TraceEntry[], chunks: ChunkTable): TraceEntry[] {
  const seen = new Set<number>()
  return entries.filter(({ position }) => {
    const index = chunks.indexAt(position)
    if (index < 0 || chunks.firstBlock(index) !== position || seen.has(position)) return false
    seen.add(position)
    return true
  })
}

function carriedEntries(
  trace: BootTrace,
  carryOver: CarryOver,
  old: VersionReader,
  next: VersionReader,
): TraceEntry[] {
  const seen = new Set<number>()
  const entries = trace.entries.flatMap(({ position, atMs }) => {
    const index = old.chunks.indexAt(position)
    if (index < 0) return []
    const targets = carryOver.targets(index).filter((target) => !seen.has(target))
    for (const target of targets) seen.add(target)
    return targets.map((target) => ({ position: next.chunks.firstBlock(target), atMs }))
  })
  return entries.slice(0, BOOT_LIST_ENTRIES_MAX)
}

function isSame(a: BootTrace, b: BootTrace): boolean {
  return a.origin === b.origin && a.bootId === b.bootId
}
