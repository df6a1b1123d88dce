/** One version of the content store, opened: where everything lies in memory, the bytes on the disk. */
import { read } from 'node:fs'
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { HASH_BYTES } from '#shared/manifest/content-hash.ts'
import { bytesOfBlocks } from '#shared/manifest/tree-shape.ts'
import {
  decodeVersionRoot,
  type SignedRoot,
  type VersionRoot,
} from '#shared/manifest/version-root.ts'
import { CHUNK_ENCODING, CHUNK_LEVEL, type ObjectName } from '#shared/wire/frame.ts'
import type { ChunkTable, StoredObject, VersionReader } from './chunk-store.ts'
import { NodeTable } from './nodes-file.ts'
import type { PackFile, PackSet } from './pack.ts'
import { CHUNK_HEADER_BYTES } from './pack-format.ts'
import { PlaceTable } from './place-table.ts'
import { readHead } from './read-fully.ts'
import type { StoreLayout } from './store-layout.ts'
import { verifiedLeaves } from './version-content.ts'
import { decodeRootFile, ROOT_FILE_BYTES_MAX } from './version-root-file.ts'

/** A version's places and the packs they are in; exchanged whole when chunks have moved. */
interface OpenPlaces {
  readonly table: PlaceTable
  /** By number of the pack; undefined when its file is not there. */
  readonly files: readonly (PackFile | undefined)[]
}

export interface OpenVersionParts {
  readonly layout: StoreLayout
  readonly packs: PackSet
  readonly onClosed: () => void
}

export class StoredVersionReader implements VersionReader {
  readonly versionId: string
  readonly signedRoot: SignedRoot
  readonly sizeBytes: number
  readonly #parts: OpenVersionParts
  readonly #nodes: NodeTable
  readonly #nodesFile: FileHandle
  #places: OpenPlaces
  #isClosed = false

  private constructor(
    signedRoot: SignedRoot,
    { sizeBytes }: VersionRoot,
    versionId: string,
    files: {
      readonly parts: OpenVersionParts
      readonly nodes: NodeTable
      readonly nodesFile: FileHandle
      readonly places: OpenPlaces
    },
  ) {
    this.versionId = versionId
    this.signedRoot = signedRoot
    this.sizeBytes = sizeBytes
    this.#parts = files.parts
    this.#nodes = files.nodes
    this.#nodesFile = files.nodesFile
    this.#places = files.places
  }

  /** @throws {BootwireError} STATE_UNREADABLE; Node's error when a file is not there */
  static async open(versionId: string, parts: OpenVersionParts): Promise<StoredVersionReader> {
    const { layout, packs } = parts
    const rootPath = layout.versionFile(versionId, 'root')
    const rootBytes = await readHead(rootPath, ROOT_FILE_BYTES_MAX)
    const signedRoot = decodeRootFile(rootBytes, versionId, rootPath)
    const root = decodeVersionRoot(signedRoot.record)
    await using opened = new AsyncDisposableStack()
    const nodesPath = layout.versionFile(versionId, 'nodes')
    const nodesFile = opened.use(await open(nodesPath))
    const nodes = await NodeTable.read(nodesFile, nodesPath)
    const places = await openPlaces(versionId, layout, packs)
    opened.move()
    return new StoredVersionReader(signedRoot, root, versionId, { parts, nodes, nodesFile, places })
  }

  get chunks(): ChunkTable {
    return this.#places.table
  }

  get storedBytes(): number {
    return this.#places.table.totalStoredBytes
  }

  async readObject(name: ObjectName, target: Uint8Array): Promise<StoredObject | undefined> {
    if (name.level === CHUNK_LEVEL) return await this.#readChunk(name.position, target)
    return await this.#readNode(name, target)
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

  /** Goes on with chunks where they are now. */
  async refresh(): Promise<void> {
    const { layout, packs } = this.#parts
    const places = await openPlaces(this.versionId, layout, packs)
    const old = this.#isClosed ? places : this.#places
    if (!this.#isClosed) this.#places = places
    await closeFiles(old, packs)
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#parts.onClosed()
    await closeFiles(this.#places, this.#parts.packs)
    await this.#nodesFile.close()
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

  async #readNode(name: ObjectName, target: Uint8Array): Promise<StoredObject | undefined> {
    const { level, position } = name
    const place = this.#nodes.find(level, position)
    if (place === undefined) return undefined
    const { lengthBytes, offsetBytes, checksum } = place
    const expected = { offset: offsetBytes, lengthBytes, checksum }
    if (!(await readChecked(this.#nodesFile.fd, target, expected))) {
      const path = this.#parts.layout.versionFile(this.versionId, 'nodes')
      throw corrupt(`node ${level}/${position} of version ${this.versionId}`, path, offsetBytes)
    }
    const encoding = CHUNK_ENCODING.raw
    return { encoding, position, rawBytes: lengthBytes, storedBytes: lengthBytes }
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

async function openPlaces(
  versionId: string,
  layout: StoreLayout,
  packs: PackSet,
): Promise<OpenPlaces> {
  const path = layout.versionFile(versionId, 'places')
  const table = PlaceTable.decode(await readFile(path), path)
  const files: (PackFile | undefined)[] = []
  for (const packId of table.packIds) {
    // Without it its chunks cannot be read, but all others can.
    files.push(await packs.openFile(packId).catch(() => undefined))
  }
  return { table, files }
}

async function closeFiles({ files }: OpenPlaces, packs: PackSet): Promise<void> {
  for (const file of files) if (file !== undefined) await packs.closeFile(file)
}

interface ExpectedBytes {
  readonly offset: number
  readonly lengthBytes: number
  readonly checksum: number
}

/** Returns whether the file has the bytes that were written. */
async function readChecked(
  descriptor: number,
  target: Uint8Array,
  { offset, lengthBytes, checksum }: ExpectedBytes,
): Promise<boolean> {
  invariant(target.length >= lengthBytes, `room of ${target.length} bytes for ${lengthBytes}`)
  for (let done = 0; done < lengthBytes; ) {
    const bytes = await readAt(descriptor, target, done, lengthBytes - done, offset + done)
    if (bytes === 0) return false
    done += bytes
  }
  return crc32(target.subarray(0, lengthBytes)) === checksum
}

/** Returns 0 for what the disk cannot read, as at the file's end. The callback costs a third less than a FileHandle. */
function readAt(
  descriptor: number,
  target: Uint8Array,
  from: number,
  lengthBytes: number,
  positionBytes: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, target, from, lengthBytes, positionBytes, (error, bytesRead) => {
      if (error === null) resolve(bytesRead)
      else if (error.code === 'EIO') resolve(0)
      else reject(error)
    })
  })
}

function corrupt(what: string, path: string, offset: number): BootwireError {
  return new BootwireError(
    'CHUNK_CORRUPT',
    `Cannot read the ${what}: "${path}" at byte ${offset} does not hold what was written`,
  )
}
