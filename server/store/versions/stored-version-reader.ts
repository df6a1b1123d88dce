/** One version of the content store, opened: where everything lies in memory, the bytes on the disk. */
import { readFile } from 'node:fs/promises'
import { BootwireError } from '#shared/errors.ts'
import { HASH_BYTES } from '#shared/manifest/content-hash.ts'
import { bytesOfBlocks } from '#shared/manifest/tree-shape.ts'
import type { SignedRoot } from '#shared/manifest/version-root.ts'
import { CHUNK_LEVEL, type ObjectName } from '#shared/wire/frame.ts'
import { readChecked } from '../checked-read.ts'
import type { ChunkTable, StoredObject, VersionReader } from '../chunk-store.ts'
import type { PackFile } from '../packs/pack-file.ts'
import { CHUNK_HEADER_BYTES } from '../packs/pack-format.ts'
import type { PackSet } from '../packs/pack-set.ts'
import { isMissing } from '../read-fully.ts'
import type { StoreLayout } from '../store-layout.ts'
import { PlaceTable } from './place-table.ts'
import { StoredTree } from './stored-tree.ts'
import { verifiedLeaves } from './version-content.ts'

/** Garbage collection would have to move chunks as often while a version is opened. */
const OPEN_ATTEMPTS = 3

/** A version's places and the packs they are in; exchanged whole when chunks have moved. */
interface OpenPlaces {
  readonly table: PlaceTable
  /** By number of the pack; undefined when its file is not there. */
  readonly files: readonly (PackFile | undefined)[]
  readonly storedBytes: number
}

export interface OpenVersionParts {
  readonly layout: StoreLayout
  readonly packs: PackSet
  readonly onClosed: () => void
}

export class StoredVersionReader implements VersionReader {
  readonly #parts: OpenVersionParts
  readonly #tree: StoredTree
  #places: OpenPlaces
  #isClosed = false

  private constructor(parts: OpenVersionParts, tree: StoredTree, places: OpenPlaces) {
    this.#parts = parts
    this.#tree = tree
    this.#places = places
  }

  /** @throws {BootwireError} STATE_UNREADABLE; Node's error when a file is not there */
  static async open(versionId: string, parts: OpenVersionParts): Promise<StoredVersionReader> {
    const tree = await StoredTree.open(parts.layout, versionId)
    try {
      return new StoredVersionReader(parts, tree, await openPlaces(versionId, parts))
    } catch (error) {
      await tree.close()
      throw error
    }
  }

  get versionId(): string {
    return this.#tree.versionId
  }

  get signedRoot(): SignedRoot {
    return this.#tree.signedRoot
  }

  get sizeBytes(): number {
    return this.#tree.sizeBytes
  }

  get chunks(): ChunkTable {
    return this.#places.table
  }

  get storedBytes(): number {
    return this.#places.storedBytes
  }

  async readObject(name: ObjectName, target: Uint8Array): Promise<StoredObject | undefined> {
    if (name.level === CHUNK_LEVEL) return await this.#readChunk(name.position, target)
    return await this.#tree.readObject(name, target)
  }

  async readHashes(): Promise<Uint8Array> {
    const hashes = new Uint8Array(this.chunks.count * HASH_BYTES)
    let at = 0
    for await (const { leaf } of verifiedLeaves(this)) {
      if (leaf === undefined) continue
      for (let index = 0; index < leaf.extentCount; index += 1) {
        const { hash } = leaf.extent(index)
        if (hash === undefined) continue
        hashes.set(hash, at)
        at += HASH_BYTES
      }
    }
    return hashes
  }

  /** Goes on with chunks where they are now; where they were, when the version has been removed. */
  async refresh(): Promise<void> {
    const places = await openPlaces(this.versionId, this.#parts).catch((error: unknown) => {
      if (isMissing(error)) return undefined
      throw error
    })
    if (places === undefined) return
    const old = this.#isClosed ? places : this.#places
    if (!this.#isClosed) this.#places = places
    await closeFiles(old, this.#parts.packs)
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#parts.onClosed()
    await closeFiles(this.#places, this.#parts.packs)
    await this.#tree.close()
  }

  async #readChunk(block: number, target: Uint8Array): Promise<StoredObject | undefined> {
    const { table, files } = this.#places
    const index = table.indexAt(block)
    if (index < 0) return undefined
    const position = table.firstBlock(index)
    const rawBytes = bytesOfBlocks(this.sizeBytes, position, table.blocks(index))
    const storedBytes = table.storedBytes(index)
    const pack = table.packNumber(index)
    const file = pack === undefined ? undefined : files[pack]
    if (file === undefined)
      throw this.#lost(position, pack === undefined ? undefined : table.packIds[pack])
    const offset = table.offset(index) + CHUNK_HEADER_BYTES
    const expected = { offset, lengthBytes: storedBytes, checksum: table.checksum(index) }
    const { packs } = this.#parts
    const isRight = await packs.using(file, () => readChecked(file.descriptor, target, expected))
    if (!isRight) {
      throw corrupt(`chunk at block ${position} of version ${this.versionId}`, file.path, offset)
    }
    return { encoding: table.encoding(index), position, rawBytes, storedBytes }
  }

  #lost(position: number, packId: string | undefined): BootwireError {
    const why =
      packId === undefined
        ? 'it was damaged and is no longer there'
        : `"${this.#parts.layout.pack(packId)}" is missing`
    return new BootwireError(
      'CHUNK_CORRUPT',
      `Cannot read the chunk at block ${position} of version ${this.versionId}: ${why}`,
    )
  }
}

/** A pack that goes between reading its name and opening it had its chunks moved: look again. */
async function openPlaces(versionId: string, parts: OpenVersionParts): Promise<OpenPlaces> {
  for (let attempt = 1; ; attempt += 1) {
    const places = await tryOpenPlaces(versionId, parts)
    if (attempt === OPEN_ATTEMPTS || !places.files.includes(undefined)) return places
    await closeFiles(places, parts.packs)
  }
}

async function tryOpenPlaces(
  versionId: string,
  { layout, packs }: OpenVersionParts,
): Promise<OpenPlaces> {
  const path = layout.versionFile(versionId, 'places')
  const table = PlaceTable.decode(await readFile(path), path)
  const files: (PackFile | undefined)[] = []
  for (const packId of table.packIds) {
    // Without it its chunks cannot be read, but all others can.
    files.push(await packs.openFile(packId).catch(() => undefined))
  }
  return { table, files, storedBytes: table.totalStoredBytes }
}

async function closeFiles({ files }: OpenPlaces, packs: PackSet): Promise<void> {
  for (const file of files) if (file !== undefined) await packs.closeFile(file)
}

function corrupt(what: string, path: string, offset: number): BootwireError {
  return new BootwireError(
    'CHUNK_CORRUPT',
    `Cannot read the ${what}: "${path}" at byte ${offset} does not hold what was written`,
  )
}
