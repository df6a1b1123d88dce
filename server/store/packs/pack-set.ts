/** The packs of a store: which there are, who needs them, and their files opened for reading. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { isMissing } from '../read-fully.ts'
import { replaceFile, type StoreDisk } from '../store-disk.ts'
import {
  INDEX_SUFFIX,
  NEW_SUFFIX,
  newPackId,
  PACK_ID_PATTERN,
  PACK_SUFFIX,
  type StoreLayout,
} from '../store-layout.ts'
import { Pack } from './pack.ts'
import { PackFile } from './pack-file.ts'
import { decodeIndex, encodeIndex, entryCount, type IndexEntries } from './pack-format.ts'
import { PackWriter } from './pack-writer.ts'

export class PackSet {
  readonly #layout: StoreLayout
  readonly #disk: StoreDisk
  readonly #packs = new Map<string, Pack>()
  readonly #files = new Map<string, PackFile>()

  private constructor(layout: StoreLayout, disk: StoreDisk) {
    this.#layout = layout
    this.#disk = disk
  }

  /**
   * Removes what a crash left half-written: passing files, and packs without an index, or indexes
   * without a pack, that `isNamed` by no version.
   */
  static async open(
    layout: StoreLayout,
    disk: StoreDisk,
    isNamed: (packId: string) => boolean,
  ): Promise<PackSet> {
    const set = new PackSet(layout, disk)
    const names = new Set(await readdir(layout.packs))
    for (const name of names) {
      if (name.endsWith(NEW_SUFFIX)) await disk.removeFile(`${layout.packs}/${name}`)
      const id = idOf(name)
      if (id === undefined || set.#packs.has(id)) continue
      const isWhole = names.has(id + PACK_SUFFIX) && names.has(id + INDEX_SUFFIX)
      if (isWhole || isNamed(id)) set.#packs.set(id, new Pack(id, layout.pack(id)))
      else await disk.removeFile(`${layout.packs}/${name}`)
    }
    return set
  }

  list(): Pack[] {
    return [...this.#packs.values()]
  }

  get(packId: string): Pack | undefined {
    return this.#packs.get(packId)
  }

  /** Begins a pack. */
  async create(): Promise<PackWriter> {
    const id = newPackId()
    const pack = new Pack(id, this.#layout.pack(id))
    const writer = await PackWriter.create(pack, this.#layout, this.#disk)
    pack.writer = writer
    pack.isNew = true
    this.#packs.set(id, pack)
    return writer
  }

  /** A user less. What was made for it alone goes. */
  async release(pack: Pack): Promise<void> {
    invariant(pack.users > 0, `pack ${pack.id} has users`)
    pack.users -= 1
    if (pack.users === 0 && pack.isNew) await this.remove(pack)
  }

  /** Removes a pack from the disk; those who have it open read on. */
  async remove(pack: Pack): Promise<void> {
    pack.isLeaving = true
    await pack.writer?.discard()
    this.#packs.delete(pack.id)
    // The index first: a pack without one is a leftover, an index alone would promise chunks.
    await this.#disk.removeFile(this.#layout.index(pack.id))
    await this.#disk.removeFile(pack.path)
  }

  /** Stands for a pack that a version names and that is not there. */
  missing(packId: string): Pack {
    return new Pack(packId, this.#layout.pack(packId))
  }

  /** Length of a pack; 0 when it is not there. */
  async packBytes(pack: Pack): Promise<number> {
    try {
      return (await stat(pack.path)).size
    } catch (error) {
      if (isMissing(error)) return 0
      throw error
    }
  }

  /** Replaces a pack's index; the pack is as it was. */
  async writeIndex(pack: Pack, entries: IndexEntries): Promise<void> {
    const { size } = await stat(pack.path)
    await replaceFile(this.#disk, this.#layout.index(pack.id), encodeIndex(entries, size))
  }

  /** How many chunks a pack has, as the length of its index says. */
  async chunkCount(pack: Pack): Promise<number> {
    return entryCount((await stat(this.#layout.index(pack.id))).size)
  }

  /** @throws {BootwireError} STATE_UNREADABLE when the index is damaged or not there */
  async readIndex(pack: Pack): Promise<IndexEntries> {
    const path = this.#layout.index(pack.id)
    try {
      return decodeIndex(await readFile(path), path).entries
    } catch (cause) {
      if (!isMissing(cause)) throw cause
      throw new BootwireError('STATE_UNREADABLE', `Cannot read "${path}": it is missing`, { cause })
    }
  }

  /** Opens a pack's file for reading, or shares it. @throws Node's error when it is not there */
  async openFile(packId: string): Promise<PackFile> {
    const known = this.#files.get(packId)
    const file = known ?? new PackFile(packId, this.#layout.pack(packId))
    if (known === undefined) this.#files.set(packId, file)
    else known.users += 1
    try {
      return await file.opened()
    } catch (error) {
      if (this.#files.get(packId) === file) this.#files.delete(packId)
      throw error
    }
  }

  /** Gives a file back; the last one closes it. */
  async closeFile(file: PackFile): Promise<void> {
    invariant(file.users > 0, `pack ${file.packId} is not open`)
    file.users -= 1
    if (file.users > 0) return
    this.#files.delete(file.packId)
    await file.close()
  }

  /** Keeps a file open while it is read. */
  async using<T>(file: PackFile, work: () => Promise<T>): Promise<T> {
    file.users += 1
    try {
      return await work()
    } finally {
      if (file.users > 1) file.users -= 1
      else await this.closeFile(file)
    }
  }
}

function idOf(name: string): string | undefined {
  const suffix = [PACK_SUFFIX, INDEX_SUFFIX].find((suffix) => name.endsWith(suffix))
  const id = suffix && name.slice(0, -suffix.length)
  return id !== undefined && PACK_ID_PATTERN.test(id) ? id : undefined
}
