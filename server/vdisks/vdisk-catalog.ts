/**
 * The vDisks and their versions: what is in the database about them, kept in step with what lies in
 * the chunk store. A version becomes visible by one transaction after its data is durable, and its
 * data goes only after the transaction that removes the last record naming it; what a crash leaves
 * in between is swept at the next start.
 *
 * The record of a vDisk changes with every change of its versions, and every transaction here is
 * under the condition that it did not meanwhile: what is decided about versions still holds when it is
 * written, whoever imports, promotes and removes at the same time.
 */

import { type WriteCacheWish, withWriteCache } from '#server/clients/write-cache-settings.ts'
import type { Log } from '#server/log.ts'
import { ChangeFeed } from '#server/state/change-feed.ts'
import {
  type KernelRecord,
  VDISK_KEYS,
  type VDiskRecord,
  VERSION_KEYS,
  type VersionRecord,
} from '#server/state/records.ts'
import type { StateChange, StateCondition, StateStore } from '#server/state/state-store.ts'
import { transactUntilWritten } from '#server/state/transact-until-written.ts'
import type { ChunkStore } from '#server/store/chunk-store.ts'
import { BootwireError } from '#shared/errors.ts'
import { assertVDiskName } from '#shared/names.ts'
import { GarbageCollector } from './garbage-collector.ts'
import { type ImportOutcome, placeVersion } from './new-version.ts'
import { rollbackTarget, withProduction } from './production-history.ts'
import { type NewVersion, type VDisk, type VDiskAccess, withAccess } from './vdisk.ts'
import { selectVersion } from './version-selector.ts'

export interface RegisteredVersion extends VDisk {
  readonly version: VersionRecord
  readonly outcome: ImportOutcome
}

/** What a change of production came to. */
export interface Promotion extends VDisk {
  readonly version: VersionRecord
  /** What was in production; the same when nothing changed, undefined when it is removed. */
  readonly before: VersionRecord | undefined
}

/** Who has its root on a version. */
export interface VersionUserName {
  /** For a message: `client-1`, or `client-2 (lost 5 min ago)`. */
  readonly text: string
  /** Not connected right now: may be overruled. */
  readonly isLost: boolean
}

/** The boot files of imported kernels, as far as the catalog looks after them. */
export interface KernelFiles {
  /** Ids of the kernels whose files are there. */
  listKernels(): Promise<string[]>
  removeKernel(kernelId: string): Promise<void>
}

export interface VDiskCatalogOptions {
  readonly store: StateStore
  readonly chunkStore: ChunkStore
  readonly bootFiles: KernelFiles
  /** True while somebody reads the data of this version. */
  readonly isInUse: (versionId: string) => boolean
  /** The clients whose root is on this version of this vDisk. */
  readonly usersOf: (vdisk: string, versionId: string) => Promise<VersionUserName[]>
  /** The data of a version is gone; what is kept of it elsewhere may go, too. */
  readonly onDataRemoved: (versionId: string) => void
  readonly now: () => number
  readonly log: Log
}

interface Loaded extends VDisk {
  /** Holds as long as nothing about the vDisk or its versions was changed. */
  readonly condition: StateCondition
}

/** A message is read by a person. */
const USERS_NAMED_MAX = 8

export class VDiskCatalog {
  /** Emits the name of every vDisk that came, went or changed. */
  readonly changes = new ChangeFeed<string>()
  readonly garbage: GarbageCollector
  readonly #options: VDiskCatalogOptions
  readonly #store: StateStore
  /** Imports that run: what they stored is in no record yet. */
  #imports = 0
  /** Settles when no sweep runs. */
  #swept: Promise<void> = Promise.resolve()

  constructor(options: VDiskCatalogOptions) {
    this.#options = options
    this.#store = options.store
    this.garbage = new GarbageCollector(options.chunkStore, options.log)
  }

  /** @throws {BootwireError} NOT_FOUND */
  async get(name: string): Promise<VDisk> {
    const { record, versions } = await this.#require(name)
    return { record, versions }
  }

  async tryGet(name: string): Promise<VDisk | undefined> {
    const loaded = await this.#load(name)
    return loaded && { record: loaded.record, versions: loaded.versions }
  }

  /** All vDisks by name. */
  async list(): Promise<VDisk[]> {
    const entries = await this.#store.range(VDISK_KEYS)
    const records = entries.map((entry) => entry.value as VDiskRecord)
    return await Promise.all(
      records.map(async (record) => ({ record, versions: await this.#versions(record.name) })),
    )
  }

  async version(vdisk: string, versionId: string): Promise<VersionRecord | undefined> {
    const entry = await this.#store.get(versionKey(vdisk, versionId))
    return entry?.value as VersionRecord | undefined
  }

  /**
   * Finds a version by its number or the beginning of its id; the one in production when none is named.
   * @throws {BootwireError} NOT_FOUND, INVALID_ARGUMENT
   */
  async find(name: string, selector: string | undefined): Promise<VersionRecord> {
    const vdisk = await this.get(name)
    const production = productionOf(vdisk)
    if (selector === undefined && production !== undefined) return production
    return selectVersion(name, vdisk.versions, selector ?? vdisk.record.productionVersionId)
  }

  /** Returns the kernel of the oldest vDisk that has one: what a machine boots to see its menu. */
  async defaultKernel(): Promise<KernelRecord | undefined> {
    const vdisks = await this.list()
    vdisks.sort((a, b) => a.record.createdAtMs - b.record.createdAtMs)
    return vdisks.map((vdisk) => productionOf(vdisk)?.kernel).find((kernel) => kernel !== undefined)
  }

  /**
   * Says that an import under this name begins; call the result when it is over. Several may run at
   * once, also under one name.
   * @throws {BootwireError} INVALID_ARGUMENT
   */
  async beginImport(name: string): Promise<() => void> {
    assertVDiskName(name)
    this.#imports += 1
    // A sweep that runs took its list before; what the import stores would be on none.
    await this.#swept
    let running = true
    return () => {
      if (running) this.#imports -= 1
      running = false
    }
  }

  /**
   * Makes an imported version visible: as a new vDisk, which has it in production, or as the next
   * version of one, which the next boots get once it is promoted. The same image again is the same
   * version.
   */
  async register(imported: NewVersion): Promise<RegisteredVersion> {
    const { name } = imported
    const registered = await transactUntilWritten(this.#store, async () => {
      const loaded = await this.#load(name)
      const placed = placeVersion(loaded, imported, this.#options.now())
      const { record, version } = placed
      const others = (loaded?.versions ?? []).filter((it) => it.versionId !== version.versionId)
      return {
        conditions: [loaded?.condition ?? { key: VDISK_KEYS + name, revision: 0 }],
        changes: placed.changed
          ? [put(VDISK_KEYS + name, record), put(versionKey(name, version.versionId), version)]
          : [],
        result: { ...placed, versions: newestFirst([version, ...others]) },
      }
    })
    this.changes.emit(name)
    return registered
  }

  /**
   * Gives this version to the next boots; running clients keep theirs.
   * @throws {BootwireError} NOT_FOUND, INVALID_ARGUMENT
   */
  promote(name: string, selector: string): Promise<Promotion> {
    return this.#changeProduction(name, 'promote', ({ versions }) =>
      selectVersion(name, versions, selector),
    )
  }

  /**
   * Gives the next boots the version that was in production before.
   * @throws {BootwireError} NOT_FOUND
   */
  rollback(name: string): Promise<Promotion> {
    return this.#changeProduction(name, 'rollback', ({ record, versions }) => {
      const target = rollbackTarget(record, versions)
      if (target !== undefined) return target
      const why = 'no other version was in production before this one, or those were removed'
      throw new BootwireError(
        'NOT_FOUND',
        `Cannot roll vDisk "${name}" back: ${why}; "bootwire vdisk promote ${name} VERSION" names one`,
      )
    })
  }

  /**
   * Sets where its clients keep what they write; what is not said stays.
   * @throws {BootwireError} NOT_FOUND, INVALID_ARGUMENT
   */
  setWriteCache(name: string, wish: WriteCacheWish): Promise<VDisk> {
    return this.#changeRecord(name, ({ writeCache, ...rest }) => ({
      ...rest,
      ...withWriteCache(writeCache, wish),
    }))
  }

  /** Says whom it is given to. @throws {BootwireError} NOT_FOUND */
  setAccess(name: string, access: VDiskAccess): Promise<VDisk> {
    return this.#changeRecord(name, (record) => withAccess(record, access))
  }

  async #changeRecord(name: string, change: (record: VDiskRecord) => VDiskRecord): Promise<VDisk> {
    const changed = await transactUntilWritten(this.#store, async () => {
      const { condition, record, versions } = await this.#require(name)
      const after = change(record)
      return {
        conditions: [condition],
        changes: [put(VDISK_KEYS + name, after)],
        result: { record: after, versions },
      }
    })
    this.changes.emit(name)
    return changed
  }

  /**
   * Removes a vDisk with its versions. Assignments are the caller's to look after.
   * @throws {BootwireError} NOT_FOUND, IN_USE when the root of a client is on it
   */
  async remove(name: string, options: { readonly force?: boolean } = {}): Promise<void> {
    await this.#removeVersions(name, options, ({ versions }) => ({
      versions,
      what: `vDisk "${name}"`,
      changes: [{ type: 'delete', key: VDISK_KEYS + name }],
    }))
  }

  /**
   * Removes one version, whose number is never given again.
   * @throws {BootwireError} NOT_FOUND, IN_USE when it is in production or the root of a client is on it
   */
  async removeVersion(
    name: string,
    selector: string,
    options: { readonly force?: boolean } = {},
  ): Promise<VersionRecord> {
    const [removed] = await this.#removeVersions(name, options, ({ record, versions }) => {
      const version = selectVersion(name, versions, selector)
      const what = `version ${version.number} of vDisk "${name}"`
      if (version.versionId === record.productionVersionId) {
        throw new BootwireError(
          'IN_USE',
          `Cannot remove ${what}: it is in production; promote another version first, or remove the whole vDisk`,
        )
      }
      // Written so that whatever else happens to the vDisk at this moment is decided again.
      return { versions: [version], what, changes: [put(VDISK_KEYS + name, record)] }
    })
    return removed as VersionRecord
  }

  /** Removes data and boot files that no record names any more; not while an import runs. */
  async sweep(): Promise<void> {
    if (this.#imports > 0) return // a later sweep finds it, at the latest the next start
    const sweeping = this.#swept.then(() => this.#sweep())
    this.#swept = sweeping.catch(() => undefined) // whoever asked is told
    await sweeping
  }

  async #sweep(): Promise<void> {
    const { chunkStore, bootFiles, isInUse, onDataRemoved, log } = this.#options
    if (this.#imports > 0) return // one began while this waited for another sweep
    const versions = (await this.#store.range(VERSION_KEYS)).map((e) => e.value as VersionRecord)
    const versionIds = new Set(versions.map(({ versionId }) => versionId))
    for (const versionId of await chunkStore.listVersions()) {
      if (versionIds.has(versionId) || isInUse(versionId)) continue
      log.info({ versionId }, 'removing a version that no vDisk has any more')
      await chunkStore.removeVersion(versionId)
      onDataRemoved(versionId)
      this.garbage.schedule()
    }
    const kernelIds = new Set(versions.map(({ kernel }) => kernel?.id))
    for (const kernelId of await bootFiles.listKernels()) {
      if (!kernelIds.has(kernelId)) await bootFiles.removeKernel(kernelId)
    }
  }

  async #changeProduction(
    name: string,
    by: 'promote' | 'rollback',
    choose: (vdisk: VDisk) => VersionRecord,
  ): Promise<Promotion> {
    const promotion = await transactUntilWritten(this.#store, async () => {
      const { condition, ...vdisk } = await this.#require(name)
      const version = choose(vdisk)
      const record = withProduction(vdisk.record, version, { by, atMs: this.#options.now() })
      const changed = record !== vdisk.record
      return {
        conditions: [condition],
        changes: changed ? [put(VDISK_KEYS + name, record)] : [],
        result: { record, versions: vdisk.versions, version, before: productionOf(vdisk) },
      }
    })
    this.changes.emit(name)
    return promotion
  }

  /**
   * Removes the records, then looks again who uses the versions: a client notes what it opens before it
   * looks whether that is still there, so that one of the two sees the other. Lost the race: all as before.
   */
  async #removeVersions(
    name: string,
    { force = false }: { readonly force?: boolean },
    choose: (vdisk: VDisk) => {
      readonly versions: readonly VersionRecord[]
      readonly what: string
      readonly changes: readonly StateChange[]
    },
  ): Promise<readonly VersionRecord[]> {
    const removed = await transactUntilWritten(this.#store, async () => {
      const { condition, ...vdisk } = await this.#require(name)
      const chosen = choose(vdisk)
      await this.#assertUnused(chosen, force)
      const keys = chosen.versions.map(({ versionId }) => versionKey(name, versionId))
      const deletions = keys.map((key): StateChange => ({ type: 'delete', key }))
      return {
        conditions: [condition],
        changes: [...chosen.changes, ...deletions],
        result: { ...chosen, record: vdisk.record },
      }
    })
    try {
      await this.#assertUnused(removed, force)
    } catch (error) {
      await this.#putBack(removed)
      throw error
    }
    this.changes.emit(name)
    await this.sweep()
    return removed.versions
  }

  async #putBack({ record, versions }: VDisk): Promise<void> {
    const records = versions.map((it) => put(versionKey(record.name, it.versionId), it))
    const isThere = (await this.#store.get(VDISK_KEYS + record.name)) !== undefined
    await this.#store.transact(
      [],
      isThere ? records : [put(VDISK_KEYS + record.name, record), ...records],
    )
  }

  async #assertUnused(
    { versions, what }: { readonly versions: readonly VersionRecord[]; readonly what: string },
    force: boolean,
  ): Promise<void> {
    const { usersOf } = this.#options
    const users = await Promise.all(versions.map((it) => usersOf(it.vdisk, it.versionId)))
    const counted = users.flat().filter(({ isLost }) => !isLost || !force)
    if (counted.length === 0) return
    const names = counted.slice(0, USERS_NAMED_MAX).map(({ text }) => text)
    const others = counted.length - names.length
    const list = `${names.join(', ')}${others > 0 ? ` and ${others} others` : ''}`
    const hint = counted.every(({ isLost }) => isLost) ? '; --force if they are off' : ''
    throw new BootwireError(
      'IN_USE',
      `Cannot remove ${what}: running clients read it: ${list}${hint}`,
    )
  }

  async #load(name: string): Promise<Loaded | undefined> {
    const entry = await this.#store.get(VDISK_KEYS + name)
    if (entry === undefined) return undefined
    const { key, revision } = entry
    const record = entry.value as VDiskRecord
    return { record, versions: await this.#versions(name), condition: { key, revision } }
  }

  async #require(name: string): Promise<Loaded> {
    const loaded = await this.#load(name)
    if (loaded !== undefined) return loaded
    throw new BootwireError('NOT_FOUND', `Cannot find vDisk "${name}"`)
  }

  async #versions(name: string): Promise<VersionRecord[]> {
    const entries = await this.#store.range(`${VERSION_KEYS}${name}/`)
    return newestFirst(entries.map((entry) => entry.value as VersionRecord))
  }
}

export function productionOf({ record, versions }: VDisk): VersionRecord | undefined {
  return versions.find(({ versionId }) => versionId === record.productionVersionId)
}

function newestFirst(versions: VersionRecord[]): VersionRecord[] {
  return versions.sort((a, b) => b.number - a.number)
}

function versionKey(vdisk: string, versionId: string): string {
  return `${VERSION_KEYS}${vdisk}/${versionId}`
}

function put(key: string, value: unknown): StateChange {
  return { type: 'put', key, value }
}
