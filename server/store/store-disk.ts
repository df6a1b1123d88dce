/**
 * Every change the store makes to files goes through here, so that tests can stop it at any of them,
 * and lose what was not synced. A file or a name is durable only after its `sync` or `syncFolder`.
 */
import { mkdir, open, rename, rm, rmdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { namingFullFolder } from './store-full.ts'

/** A file being written. */
export interface NewFile {
  write(bytes: Uint8Array, positionBytes: number): Promise<void>
  truncate(lengthBytes: number): Promise<void>
  sync(): Promise<void>
  close(): Promise<void>
}

export interface StoreDisk {
  /** Makes a file that must not be there yet. */
  createFile(path: string): Promise<NewFile>
  /** Also over a file that is there. */
  rename(from: string, to: string): Promise<void>
  /** Removes a file; nothing happens when there is none. */
  removeFile(path: string): Promise<void>
  createFolder(path: string): Promise<void>
  /** Removes a folder that is empty. */
  removeFolder(path: string): Promise<void>
  /** Makes names that were created in, renamed to or removed from a folder durable. */
  syncFolder(path: string): Promise<void>
}

/** The real one. @throws {BootwireError} STORE_FULL, from everything that needs room */
export const NODE_DISK: StoreDisk = {
  createFile: (path) =>
    namingFullFolder(dirname(path), async () => new NodeFile(path, await open(path, 'wx+'))),
  rename: (from, to) => namingFullFolder(dirname(to), () => rename(from, to)),
  removeFile: (path) => rm(path, { force: true }),
  createFolder: async (path) => {
    await namingFullFolder(dirname(path), () => mkdir(path, { recursive: true }))
  },
  removeFolder: (path) => rmdir(path),
  syncFolder: async (path) => {
    await using folder = await open(path)
    await folder.sync()
  },
}

class NodeFile implements NewFile {
  readonly #folder: string
  readonly #file: Awaited<ReturnType<typeof open>>

  constructor(path: string, file: Awaited<ReturnType<typeof open>>) {
    this.#folder = dirname(path)
    this.#file = file
  }

  async write(bytes: Uint8Array, positionBytes: number): Promise<void> {
    await namingFullFolder(this.#folder, async () => {
      for (let at = 0; at < bytes.length; ) {
        const left = bytes.length - at
        at += (await this.#file.write(bytes, at, left, positionBytes + at)).bytesWritten
      }
    })
  }

  truncate(lengthBytes: number): Promise<void> {
    return this.#file.truncate(lengthBytes)
  }

  sync(): Promise<void> {
    return namingFullFolder(this.#folder, () => this.#file.sync())
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** Writes a file whole and returns when its content is on the disk; its name is not yet. */
export async function writeNewFile(
  disk: StoreDisk,
  path: string,
  bytes: Uint8Array,
): Promise<void> {
  const file = await disk.createFile(path)
  try {
    await file.write(bytes, 0)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Puts a file in the place of one that may be there: readers see the old or the new one, whole. */
export async function replaceFile(disk: StoreDisk, path: string, bytes: Uint8Array): Promise<void> {
  const passing = `${path}.new`
  await disk.removeFile(passing)
  await writeNewFile(disk, passing, bytes)
  await disk.rename(passing, path)
  await disk.syncFolder(dirname(path))
}
