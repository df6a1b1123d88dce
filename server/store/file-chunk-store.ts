/**
 * The chunk store of today: one folder per version with one file of data and one index (FORMAT.md).
 *
 * Only one store may have a folder open; the database's lock sees to that. A version's folder appears
 * and goes by one rename, so a crash leaves only folders with a passing name, which `open` removes.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { chunkCount } from '#shared/chunk/chunk-math.ts'
import { BootwireError } from '#shared/errors.ts'
import { KiB } from '#shared/units.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import type { ChunkStore, VersionReader, VersionWriter } from './chunk-store.ts'
import { syncFolder, writeDurably } from './durable-file.ts'
import { FileVersionReader } from './file-version-reader.ts'
import { FileVersionWriter } from './file-version-writer.ts'
import { namingFullFolder } from './store-full.ts'

/** A boot reads 53.7 MB in chunks of this size; twice the size brings 10 % more for fewer requests. */
const CHUNK_BYTES = 64 * KiB

const VERSION_ID = /^[0-9a-f]{64}$/
const WRITING_PREFIX = 'new-'
const REMOVING_PREFIX = 'old-'

export class FileChunkStore implements ChunkStore {
  readonly #folder: string
  readonly #writers = new Set<VersionWriter>()
  #lastPublished: Promise<void> = Promise.resolve()

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Opens or creates the store, and removes what a crash left half-way. */
  static async open(folder: string): Promise<FileChunkStore> {
    await mkdir(folder, { recursive: true })
    const leftovers = (await readdir(folder)).filter(
      (name) => name.startsWith(WRITING_PREFIX) || name.startsWith(REMOVING_PREFIX),
    )
    for (const name of leftovers) await rm(join(folder, name), { recursive: true })
    return new FileChunkStore(folder)
  }

  /** @throws {BootwireError} STORE_FULL */
  async createVersion(): Promise<VersionWriter> {
    const folder = this.#passingName(WRITING_PREFIX)
    return await namingFullFolder(this.#folder, async () => {
      await mkdir(folder)
      const writer: VersionWriter = await FileVersionWriter.create({
        folder,
        chunkBytes: CHUNK_BYTES,
        publish: async (versionId, index) => {
          await this.#publish(folder, versionId, index)
          this.#writers.delete(writer)
        },
        discard: async () => {
          await rm(folder, { recursive: true, force: true })
          this.#writers.delete(writer)
        },
      })
      this.#writers.add(writer)
      return writer
    })
  }

  async openVersion(versionId: string): Promise<VersionReader> {
    if (!VERSION_ID.test(versionId)) throw unknownVersion(versionId)
    try {
      return await FileVersionReader.open(join(this.#folder, versionId))
    } catch (error) {
      if (isMissing(error)) throw unknownVersion(versionId, error)
      throw error
    }
  }

  async removeVersion(versionId: string): Promise<void> {
    if (!VERSION_ID.test(versionId)) return
    const passing = this.#passingName(REMOVING_PREFIX)
    try {
      await rename(join(this.#folder, versionId), passing)
    } catch (error) {
      if (isMissing(error)) return
      throw error
    }
    await syncFolder(this.#folder)
    await rm(passing, { recursive: true })
  }

  async listVersions(): Promise<string[]> {
    const names = await readdir(this.#folder)
    return names.filter((name) => VERSION_ID.test(name)).sort()
  }

  /** Readers that are open stay so; versions being written are given up. */
  async close(): Promise<void> {
    for (const writer of this.#writers) await writer.abort()
  }

  async #publish(folder: string, versionId: string, index: Uint8Array): Promise<void> {
    await writeDurably(join(folder, 'index'), index)
    await syncFolder(folder)
    // One at a time: two of the same content must not both find that there is none yet.
    const published = this.#lastPublished.then(() => this.#moveIntoPlace(folder, versionId))
    this.#lastPublished = published.catch(() => undefined)
    await published
  }

  async #moveIntoPlace(folder: string, versionId: string): Promise<void> {
    if (await this.#isIntact(versionId)) {
      await rm(folder, { recursive: true })
      return
    }
    // What is there of this name is damaged: importing the image again is how it is mended.
    await this.removeVersion(versionId)
    await rename(folder, join(this.#folder, versionId))
    await syncFolder(this.#folder)
  }

  /** True when the version is there and every chunk of it is what was written. */
  async #isIntact(versionId: string): Promise<boolean> {
    try {
      const reader = await this.openVersion(versionId)
      await using _ = { [Symbol.asyncDispose]: () => reader.close() }
      const buffer = new Uint8Array(CHUNK_BYTES_MAX)
      for (let index = 0; index < chunkCount(reader); index += 1) {
        await reader.readChunk(index, buffer)
      }
      return true
    } catch (error) {
      if (error instanceof BootwireError) return false
      throw error
    }
  }

  #passingName(prefix: string): string {
    return join(this.#folder, prefix + randomBytes(8).toString('hex'))
  }
}

function unknownVersion(versionId: string, cause?: unknown): BootwireError {
  return new BootwireError('NOT_FOUND', `Cannot find version "${versionId}"`, { cause })
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
