/**
 * The folders of versions. A version appears and goes by one rename; a file of it is replaced by one
 * rename, and each fits the other two whichever of its editions is there, since the version's id says
 * what is in the first two and in what order the third names chunks. Whoever changes any of it does so
 * in `change`, one at a time.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { SignedRoot } from '#shared/manifest/version-root.ts'
import { isMissing, readHead } from '../read-fully.ts'
import { type NewFile, replaceFile, type StoreDisk, writeNewFile } from '../store-disk.ts'
import {
  NEW_SUFFIX,
  REMOVING_PREFIX,
  type StoreLayout,
  VERSION_FILES,
  VERSION_ID_PATTERN,
  WRITING_PREFIX,
} from '../store-layout.ts'
import { NodesWriter } from './nodes-file.ts'
import { decodePlacesHead, type PlacesHead, PlaceTable, placesHeadBytes } from './place-table.ts'
import type { TreeNode } from './tree-builder.ts'
import { encodeRootFile } from './version-root-file.ts'

/** Enough for the head of nearly any; read again when it is longer. */
const HEAD_BYTES = 4096

/** A version that is not visible yet. */
export interface PassingVersion {
  readonly folder: string
  /** The file of its nodes, for its writer. */
  readonly nodes: NewFile
}

export class VersionFolders {
  readonly #layout: StoreLayout
  readonly #disk: StoreDisk
  #lastChange: Promise<unknown> = Promise.resolve()

  constructor(layout: StoreLayout, disk: StoreDisk) {
    this.#layout = layout
    this.#disk = disk
  }

  /** Removes what a crash left half-written or half-removed. */
  async sweep(): Promise<void> {
    for (const name of await readdir(this.#layout.versions)) {
      const folder = join(this.#layout.versions, name)
      if (VERSION_ID_PATTERN.test(name)) await this.#sweepVersion(folder)
      const isPassing = name.startsWith(WRITING_PREFIX) || name.startsWith(REMOVING_PREFIX)
      if (isPassing) await this.discard(folder)
    }
  }

  async list(): Promise<string[]> {
    const names = await readdir(this.#layout.versions)
    return names.filter((name) => VERSION_ID_PATTERN.test(name)).sort()
  }

  /** @throws {BootwireError} STATE_UNREADABLE; Node's error when it is not there */
  async readHead(versionId: string): Promise<PlacesHead> {
    const path = this.#layout.versionFile(versionId, 'places')
    let bytes = await readHead(path, HEAD_BYTES)
    const headBytes = placesHeadBytes(bytes, path)
    if (headBytes > bytes.length) bytes = await readHead(path, headBytes)
    return decodePlacesHead(bytes, path)
  }

  /** @throws {BootwireError} STATE_UNREADABLE; Node's error when it is not there */
  async readPlaces(versionId: string): Promise<PlaceTable> {
    const path = this.#layout.versionFile(versionId, 'places')
    return PlaceTable.decode(await readFile(path), path)
  }

  /** Runs `work` when nobody else changes versions. */
  change<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#lastChange.then(work)
    this.#lastChange = done.catch(() => undefined)
    return done
  }

  async begin(): Promise<PassingVersion> {
    const folder = this.#layout.passingVersion(WRITING_PREFIX)
    await this.#disk.createFolder(folder)
    return { folder, nodes: await this.#disk.createFile(join(folder, VERSION_FILES.nodes)) }
  }

  /** Puts root and places beside the nodes, which are synced, and makes them durable. */
  async complete(
    folder: string,
    root: SignedRoot,
    places: PlaceTable,
    sizeBytes: number,
  ): Promise<void> {
    const encoded = places.encode(sizeBytes)
    await writeNewFile(this.#disk, join(folder, VERSION_FILES.places), encoded)
    await writeNewFile(this.#disk, join(folder, VERSION_FILES.root), encodeRootFile(root))
    await this.#disk.syncFolder(folder)
  }

  /** Makes a complete version visible, or puts its files in the place of those there are. */
  async publish(folder: string, versionId: string): Promise<void> {
    const target = this.#layout.version(versionId)
    if ((await this.list()).includes(versionId)) {
      for (const name of Object.values(VERSION_FILES)) {
        await this.#disk.rename(join(folder, name), join(target, name))
      }
      await this.#disk.syncFolder(target)
      await this.#disk.removeFolder(folder)
    } else {
      await this.#disk.rename(folder, target)
    }
    await this.#disk.syncFolder(this.#layout.versions)
  }

  /** Puts a tree in the place of the one there is. */
  async writeNodes(versionId: string, nodes: Iterable<TreeNode>): Promise<void> {
    const path = this.#layout.versionFile(versionId, 'nodes')
    const passing = path + NEW_SUFFIX
    await this.#disk.removeFile(passing)
    const file = await this.#disk.createFile(passing)
    try {
      const writer = new NodesWriter(file)
      for (const node of nodes) await writer.add(node)
      await writer.finish()
      await file.sync()
    } finally {
      await file.close()
    }
    await this.#disk.rename(passing, path)
    await this.#disk.syncFolder(this.#layout.version(versionId))
  }

  async writeRoot(versionId: string, root: SignedRoot): Promise<void> {
    await this.#replace(versionId, 'root', encodeRootFile(root))
  }

  async writePlaces(versionId: string, places: PlaceTable): Promise<void> {
    await this.#replace(versionId, 'places', places.encode())
  }

  async #replace(
    versionId: string,
    file: keyof typeof VERSION_FILES,
    bytes: Uint8Array,
  ): Promise<void> {
    await replaceFile(this.#disk, this.#layout.versionFile(versionId, file), bytes)
  }

  /** Nothing happens when there is no such version. */
  async remove(versionId: string): Promise<void> {
    const passing = this.#layout.passingVersion(REMOVING_PREFIX)
    if (!(await this.list()).includes(versionId)) return
    await this.#disk.rename(this.#layout.version(versionId), passing)
    await this.#disk.syncFolder(this.#layout.versions)
    await this.discard(passing)
  }

  /** Removes a folder that is no version, with what is in it. */
  async discard(folder: string): Promise<void> {
    for (const name of await namesIn(folder)) await this.#disk.removeFile(join(folder, name))
    await this.#disk.removeFolder(folder)
  }

  async #sweepVersion(folder: string): Promise<void> {
    const passing = (await namesIn(folder)).filter((name) => name.endsWith(NEW_SUFFIX))
    for (const name of passing) await this.#disk.removeFile(join(folder, name))
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}
