/** The tree of a stored version: its signed root and its nodes, read one by one. */
import { type FileHandle, open } from 'node:fs/promises'
import { BootwireError } from '#shared/errors.ts'
import { decodeVersionRoot, type SignedRoot } from '#shared/manifest/version-root.ts'
import { CHUNK_ENCODING, CHUNK_LEVEL, type ObjectName } from '#shared/wire/frame.ts'
import { readChecked } from '../checked-read.ts'
import type { StoredObject } from '../chunk-store.ts'
import { readHead } from '../read-fully.ts'
import type { StoreLayout } from '../store-layout.ts'
import { NodeTable } from './nodes-file.ts'
import type { TreeReader } from './version-content.ts'
import { decodeRootFile, ROOT_FILE_BYTES_MAX } from './version-root-file.ts'

export class StoredTree implements TreeReader {
  readonly versionId: string
  readonly signedRoot: SignedRoot
  readonly sizeBytes: number
  readonly #nodes: NodeTable
  readonly #file: FileHandle
  readonly #path: string

  private constructor(
    versionId: string,
    signedRoot: SignedRoot,
    nodes: NodeTable,
    { file, path }: { readonly file: FileHandle; readonly path: string },
  ) {
    this.versionId = versionId
    this.signedRoot = signedRoot
    this.sizeBytes = decodeVersionRoot(signedRoot.record).sizeBytes
    this.#nodes = nodes
    this.#file = file
    this.#path = path
  }

  /** @throws {BootwireError} STATE_UNREADABLE; Node's error when a file is not there */
  static async open(layout: StoreLayout, versionId: string): Promise<StoredTree> {
    const signedRoot = await readRoot(layout, versionId)
    const path = layout.versionFile(versionId, 'nodes')
    const file = await open(path)
    try {
      return new StoredTree(versionId, signedRoot, await NodeTable.read(file, path), { file, path })
    } catch (error) {
      await file.close()
      throw error
    }
  }

  async readObject(name: ObjectName, target: Uint8Array): Promise<StoredObject | undefined> {
    const { level, position } = name
    const place = level === CHUNK_LEVEL ? undefined : this.#nodes.find(level, position)
    if (place === undefined) return undefined
    const { lengthBytes, offsetBytes, checksum } = place
    const expected = { offset: offsetBytes, lengthBytes, checksum }
    if (!(await readChecked(this.#file.fd, target, expected))) {
      throw new BootwireError(
        'CHUNK_CORRUPT',
        `Cannot read node ${level}/${position} of version ${this.versionId}: "${this.#path}" at byte ${offsetBytes} does not hold what was written`,
      )
    }
    const encoding = CHUNK_ENCODING.raw
    return { encoding, position, rawBytes: lengthBytes, storedBytes: lengthBytes }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** @throws {BootwireError} STATE_UNREADABLE; Node's error when it is not there */
export async function readRoot(layout: StoreLayout, versionId: string): Promise<SignedRoot> {
  const path = layout.versionFile(versionId, 'root')
  return decodeRootFile(await readHead(path, ROOT_FILE_BYTES_MAX), versionId, path)
}
