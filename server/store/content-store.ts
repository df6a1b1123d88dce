/**
 * The content-addressed chunk store: chunks in packs, each once for all versions; per version its tree
 * and a table of places (FORMAT.md). Only one store may have a folder open; the database's lock sees to
 * that.
 *
 * What holds always:
 * - A version is visible after everything it needs is durable: packs, their indexes, its files.
 * - A pack is never changed once its index has its name; it goes when no version names it.
 * - Who relies on a pack that no version names for it yet holds it (`Pack.users`) from the moment of
 *   deciding so. Garbage collection takes no pack that is held, and nobody begins to hold one it took.
 */

import { dirname } from 'node:path'
import { BootwireError } from '#shared/errors.ts'
import type { SignedRoot } from '#shared/manifest/version-root.ts'
import type {
  CheckOptions,
  CheckProgress,
  CheckReport,
  ChunkStore,
  GarbageReport,
  VersionReader,
  VersionWriter,
} from './chunk-store.ts'
import { type Pack } from './packs/pack.ts'
import { PackSet } from './packs/pack-set.ts'
import { isMissing } from './read-fully.ts'
import { NODE_DISK, type StoreDisk } from './store-disk.ts'
import { StoreLayout, VERSION_ID_PATTERN } from './store-layout.ts'
import type { StoreParts } from './store-parts.ts'
import { collectGarbage } from './upkeep/garbage-collection.ts'
import { mendAfterImport } from './upkeep/import-mending.ts'
import { checkStore } from './upkeep/store-check.ts'
import { StoredVersionReader } from './versions/stored-version-reader.ts'
import { VersionFolders } from './versions/version-folders.ts'
import { ImportSession } from './writing/import-session.ts'
import { type FinishedVersion, ImportWriter } from './writing/version-writer.ts'

export interface ContentStoreOptions {
  /** Signs a new version's root record as this server. */
  readonly sign: (record: Uint8Array) => SignedRoot
  /** Where changes go, in tests. */
  readonly disk?: StoreDisk
}

export class ContentStore implements ChunkStore {
  readonly #layout: StoreLayout
  readonly #sign: ContentStoreOptions['sign']
  readonly #packs: PackSet
  readonly #folders: VersionFolders
  readonly #writers = new Set<VersionWriter>()
  readonly #readers = new Set<StoredVersionReader>()
  /** Present while imports run. */
  #session: Promise<ImportSession> | undefined
  #sessionUsers = 0
  #commits = 0
  readonly #parts: StoreParts
  readonly #closing = new AbortController()
  #maintenance: Promise<void> = Promise.resolve()

  private constructor(
    layout: StoreLayout,
    { sign, disk = NODE_DISK }: ContentStoreOptions,
    packs: PackSet,
    folders: VersionFolders,
  ) {
    this.#layout = layout
    this.#sign = sign
    this.#packs = packs
    this.#folders = folders
    this.#parts = {
      layout,
      disk,
      packs,
      folders,
      lastCommit: () => this.#commits,
      willHold: (pack) => this.#willHold(pack),
      sign,
      session: () => this.#session,
      refreshReaders: (versionId) => this.#refreshReaders(versionId),
    }
  }

  /** Opens or creates the store, and removes what a crash left half-way. */
  static async open(folder: string, options: ContentStoreOptions): Promise<ContentStore> {
    const disk = options.disk ?? NODE_DISK
    const layout = new StoreLayout(folder)
    await disk.createFolder(layout.packs)
    await disk.createFolder(layout.versions)
    await disk.syncFolder(folder)
    await disk.syncFolder(dirname(folder))
    const folders = new VersionFolders(layout, disk)
    await folders.sweep()
    const packs = await PackSet.open(layout, disk, await namedPacks(folders))
    return new ContentStore(layout, options, packs, folders)
  }

  /** @throws {BootwireError} STORE_FULL */
  async createVersion(): Promise<VersionWriter> {
    const session = await this.#joinSession()
    try {
      const { folder, nodes } = await this.#folders.begin()
      const passing = { folder, isPublished: false }
      const writer: VersionWriter = new ImportWriter({
        session,
        packs: this.#packs,
        nodes,
        publish: (version, held) => this.#publish(passing, version, held),
        end: async (held) => {
          this.#writers.delete(writer)
          await this.#end(passing, held)
        },
      })
      this.#writers.add(writer)
      return writer
    } catch (error) {
      await this.#leaveSession()
      throw error
    }
  }

  async openVersion(versionId: string): Promise<VersionReader> {
    if (!VERSION_ID_PATTERN.test(versionId)) throw unknownVersion(versionId)
    try {
      const reader = await StoredVersionReader.open(versionId, {
        layout: this.#layout,
        packs: this.#packs,
        onClosed: () => this.#readers.delete(reader),
      })
      this.#readers.add(reader)
      return reader
    } catch (error) {
      if (isMissing(error) && !(await this.listVersions()).includes(versionId)) {
        throw unknownVersion(versionId, error)
      }
      throw isMissing(error) || isUnreadable(error) ? unreadableVersion(versionId, error) : error
    }
  }

  async removeVersion(versionId: string): Promise<void> {
    await this.#folders.change(() => this.#folders.remove(versionId))
  }

  async listVersions(): Promise<string[]> {
    return await this.#folders.list()
  }

  async collectGarbage(signal: AbortSignal): Promise<GarbageReport> {
    return await this.#maintain(signal, (both) => collectGarbage(this.#parts, both))
  }

  async check(
    options: CheckOptions,
    onProgress: (progress: CheckProgress) => void,
    signal: AbortSignal,
  ): Promise<CheckReport> {
    return await this.#maintain(signal, (both) =>
      checkStore(this.#parts, options, onProgress, both),
    )
  }

  /** Readers that are open stay so; versions being written are given up, and so is maintenance. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('The store was closed'))
    await this.#maintenance
    for (const writer of this.#writers) await writer.abort()
    await this.#session
  }

  /** Garbage collection and check run one at a time. */
  async #maintain<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const both = AbortSignal.any([signal, this.#closing.signal])
    const done = this.#maintenance.then(() => {
      both.throwIfAborted()
      return work(both)
    })
    this.#maintenance = done.then(
      () => undefined,
      () => undefined,
    )
    return await done
  }

  async #publish(
    passing: { readonly folder: string; isPublished: boolean },
    { versionId, record, places, sizeBytes, replaced }: FinishedVersion,
    held: ReadonlySet<Pack>,
  ): Promise<void> {
    await this.#folders.complete(passing.folder, this.#sign(record), places, sizeBytes)
    await this.#folders.change(async () => {
      // Before the rename: should what follows fail, the version may be there all the same.
      for (const pack of held) this.#willHold(pack)
      await this.#folders.publish(passing.folder, versionId)
      passing.isPublished = true
    })
    await this.#refreshReaders(versionId)
    const session = await this.#session
    if (session !== undefined) await mendAfterImport(this.#parts, session, replaced)
  }

  /** Numbered, so that garbage collection knows what happened since it looked. */
  #willHold(pack: Pack): void {
    this.#commits += 1
    pack.isNew = false
    pack.lastCommit = this.#commits
  }

  async #end(
    passing: { readonly folder: string; readonly isPublished: boolean },
    held: ReadonlySet<Pack>,
  ): Promise<void> {
    try {
      for (const pack of held) await this.#packs.release(pack)
      if (!passing.isPublished) await this.#folders.discard(passing.folder)
    } finally {
      await this.#leaveSession()
    }
  }

  async #refreshReaders(versionId: string): Promise<void> {
    for (const reader of this.#readers) {
      if (reader.versionId === versionId) await reader.refresh()
    }
  }

  async #joinSession(): Promise<ImportSession> {
    this.#sessionUsers += 1
    this.#session ??= ImportSession.start(this.#packs)
    try {
      return await this.#session
    } catch (error) {
      await this.#leaveSession()
      throw error
    }
  }

  async #leaveSession(): Promise<void> {
    this.#sessionUsers -= 1
    if (this.#sessionUsers > 0) return
    const session = this.#session
    this.#session = undefined
    await (await session)?.close()
  }
}

/** Which packs some version names. All, where one cannot say: then nothing is swept. */
async function namedPacks(folders: VersionFolders): Promise<(packId: string) => boolean> {
  const named = new Set<string>()
  for (const versionId of await folders.list()) {
    try {
      for (const packId of (await folders.readHead(versionId)).packIds) named.add(packId)
    } catch {
      return () => true
    }
  }
  return (packId) => named.has(packId)
}

function unknownVersion(versionId: string, cause?: unknown): BootwireError {
  return new BootwireError('NOT_FOUND', `Cannot find version "${versionId}"`, { cause })
}

function unreadableVersion(versionId: string, cause: Error): BootwireError {
  const message = `Cannot open version "${versionId}": ${cause.message}; "bootwire check --repair" may mend it`
  return new BootwireError('STATE_UNREADABLE', message, { cause })
}

function isUnreadable(error: unknown): error is BootwireError {
  return error instanceof BootwireError && error.code === 'STATE_UNREADABLE'
}
