/**
 * The vDisks and their versions: what is in the database about them, kept in step with what lies in
 * the chunk store. A version becomes visible by one transaction after its data is durable, and its
 * data goes only after the transaction that removes the last record naming it; what a crash leaves
 * in between is swept at the next start.
 */

import type { Log } from '#server/log.ts'
import { ChangeFeed } from '#server/state/change-feed.ts'
import {
  type KernelRecord,
  VDISK_KEYS,
  type VDiskRecord,
  VERSION_KEYS,
  type VersionRecord,
} from '#server/state/records.ts'
import type { StateStore } from '#server/state/state-store.ts'
import type { ChunkStore, CommittedVersion } from '#server/store/chunk-store.ts'
import { BootwireError } from '#shared/errors.ts'
import { assertVDiskName } from '#shared/names.ts'
import type { RootLocation } from '#shared/wire/messages.ts'

/** A vDisk with its versions, newest first. */
export interface VDisk {
  readonly record: VDiskRecord
  readonly versions: readonly VersionRecord[]
}

/** What an import produced, under the name it shall have. */
export interface NewVDisk {
  readonly name: string
  readonly title: string
  readonly committed: CommittedVersion
  readonly root: RootLocation
  readonly osName: string
  readonly kernel?: KernelRecord
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
  /** True when a session reads this version right now. */
  readonly isInUse: (versionId: string) => boolean
  readonly now: () => number
  readonly log: Log
}

export class VDiskCatalog {
  /** Emits the name of every vDisk that came or went. */
  readonly changes = new ChangeFeed<string>()
  readonly #options: VDiskCatalogOptions
  readonly #store: StateStore
  /** Names whose import runs: taken, though not in the database yet. */
  readonly #reserved = new Set<string>()
  /** Settles when no sweep runs. */
  #swept: Promise<void> = Promise.resolve()

  constructor(options: VDiskCatalogOptions) {
    this.#options = options
    this.#store = options.store
  }

  /** @throws {BootwireError} NOT_FOUND */
  async get(name: string): Promise<VDisk> {
    const found = await this.tryGet(name)
    if (found === undefined) {
      throw new BootwireError('NOT_FOUND', `Cannot find vDisk "${name}"`)
    }
    return found
  }

  async tryGet(name: string): Promise<VDisk | undefined> {
    const entry = await this.#store.get(VDISK_KEYS + name)
    if (entry === undefined) return undefined
    return { record: entry.value as VDiskRecord, versions: await this.#versions(name) }
  }

  /** All vDisks by name. */
  async list(): Promise<VDisk[]> {
    const entries = await this.#store.range(VDISK_KEYS)
    const records = entries.map((entry) => entry.value as VDiskRecord)
    return await Promise.all(
      records.map(async (record) => ({ record, versions: await this.#versions(record.name) })),
    )
  }

  /** Returns the version the next boots get; undefined when the vDisk is not there. */
  async productionVersion(name: string): Promise<VersionRecord | undefined> {
    const vdisk = await this.tryGet(name)
    return vdisk && productionOf(vdisk)
  }

  async version(vdisk: string, versionId: string): Promise<VersionRecord | undefined> {
    const entry = await this.#store.get(versionKey(vdisk, versionId))
    return entry?.value as VersionRecord | undefined
  }

  /** Returns the kernel of the oldest vDisk that has one: what a machine boots to see its menu. */
  async defaultKernel(): Promise<KernelRecord | undefined> {
    const vdisks = await this.list()
    vdisks.sort((a, b) => a.record.createdAtMs - b.record.createdAtMs)
    return vdisks.map((vdisk) => productionOf(vdisk)?.kernel).find((kernel) => kernel !== undefined)
  }

  /**
   * Takes the name for the time of an import; call the result when it is over.
   * @throws {BootwireError} INVALID_ARGUMENT, ALREADY_EXISTS
   */
  async reserve(name: string): Promise<() => void> {
    assertVDiskName(name)
    const exists = (await this.#store.get(VDISK_KEYS + name)) !== undefined
    if (exists || this.#reserved.has(name)) {
      const state = exists ? 'there is one of this name' : 'an import of this name is running'
      throw new BootwireError('ALREADY_EXISTS', `Cannot import vDisk "${name}": ${state}`)
    }
    this.#reserved.add(name)
    // A sweep that runs took its list before; what the import stores would be on none.
    await this.#swept
    return () => this.#reserved.delete(name)
  }

  /** Makes an imported version visible as a vDisk of its own. @throws {BootwireError} ALREADY_EXISTS */
  async register(vdisk: NewVDisk): Promise<VDisk> {
    const { name, title, committed, root, osName, kernel } = vdisk
    const createdAtMs = this.#options.now()
    const record = { name, title, createdAtMs, productionVersionId: committed.versionId }
    const version: VersionRecord = {
      ...committed,
      vdisk: name,
      createdAtMs,
      root,
      osName,
      ...(kernel !== undefined && { kernel }),
    }
    const revision = await this.#store.transact(
      [{ key: VDISK_KEYS + name, revision: 0 }],
      [
        { type: 'put', key: VDISK_KEYS + name, value: record },
        { type: 'put', key: versionKey(name, version.versionId), value: version },
      ],
    )
    if (revision === undefined) {
      throw new BootwireError(
        'ALREADY_EXISTS',
        `Cannot import vDisk "${name}": there is one of this name`,
      )
    }
    this.changes.emit(name)
    return { record, versions: [version] }
  }

  /**
   * Removes a vDisk with its versions. Assignments are the caller's to look after.
   * @throws {BootwireError} NOT_FOUND, IN_USE when a running client reads it
   */
  async remove(name: string): Promise<void> {
    const vdisk = await this.get(name)
    if (vdisk.versions.some(({ versionId }) => this.#options.isInUse(versionId))) {
      throw new BootwireError('IN_USE', `Cannot remove vDisk "${name}": running clients read it`)
    }
    const keys = vdisk.versions.map(({ versionId }) => versionKey(name, versionId))
    await this.#store.transact(
      [],
      [VDISK_KEYS + name, ...keys].map((key) => ({ type: 'delete', key })),
    )
    this.changes.emit(name)
    await this.sweep()
  }

  /** Removes data and boot files that no record names any more; not while an import runs. */
  async sweep(): Promise<void> {
    if (this.#reserved.size > 0) return // a later sweep finds it, at the latest the next start
    const sweeping = this.#swept.then(() => this.#sweep())
    this.#swept = sweeping.catch(() => undefined) // whoever asked is told
    await sweeping
  }

  async #sweep(): Promise<void> {
    const { chunkStore, bootFiles, log } = this.#options
    if (this.#reserved.size > 0) return // one began while this waited for another sweep
    const versions = (await this.#store.range(VERSION_KEYS)).map((e) => e.value as VersionRecord)
    const versionIds = new Set(versions.map(({ versionId }) => versionId))
    for (const versionId of await chunkStore.listVersions()) {
      if (versionIds.has(versionId)) continue
      log.info({ versionId }, 'removing a version that no vDisk has any more')
      await chunkStore.removeVersion(versionId)
    }
    const kernelIds = new Set(versions.map(({ kernel }) => kernel?.id))
    for (const kernelId of await bootFiles.listKernels()) {
      if (!kernelIds.has(kernelId)) await bootFiles.removeKernel(kernelId)
    }
  }

  async #versions(name: string): Promise<VersionRecord[]> {
    const entries = await this.#store.range(`${VERSION_KEYS}${name}/`)
    const versions = entries.map((entry) => entry.value as VersionRecord)
    return versions.sort((a, b) => b.createdAtMs - a.createdAtMs)
  }
}

export function productionOf({ record, versions }: VDisk): VersionRecord | undefined {
  return versions.find(({ versionId }) => versionId === record.productionVersionId)
}

function versionKey(vdisk: string, versionId: string): string {
  return `${VERSION_KEYS}${vdisk}/${versionId}`
}
