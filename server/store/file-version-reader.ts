/** One version of the file store, opened: its index in memory, its data read chunk by chunk. */
import { type FileHandle, open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { chunkLength } from '#shared/chunk/chunk-math.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import type { StoredChunk, VersionReader } from './chunk-store.ts'
import { INDEX_HEADER_BYTES, indexLength, VersionIndex } from './version-index.ts'

export class FileVersionReader implements VersionReader {
  readonly #folder: string
  readonly #index: VersionIndex
  readonly #data: FileHandle

  private constructor(folder: string, index: VersionIndex, data: FileHandle) {
    this.#folder = folder
    this.#index = index
    this.#data = data
  }

  /** @throws {BootwireError} STATE_UNREADABLE; Node's error when a file is not there */
  static async open(folder: string): Promise<FileVersionReader> {
    const index = await readIndex(`${folder}/index`)
    const data = await open(`${folder}/data`)
    try {
      const { size } = await data.stat()
      if (size === index.dataBytes) return new FileVersionReader(folder, index, data)
      throw new BootwireError(
        'STATE_UNREADABLE',
        `Cannot read "${folder}/data": it has ${size} bytes, its index says ${index.dataBytes}`,
      )
    } catch (error) {
      await data.close()
      throw error
    }
  }

  get sizeBytes(): number {
    return this.#index.sizeBytes
  }

  get chunkBytes(): number {
    return this.#index.chunkBytes
  }

  async readChunk(chunkIndex: number, target: Uint8Array): Promise<StoredChunk> {
    const rawBytes = chunkLength(this.#index, chunkIndex)
    const { encoding, offsetBytes, storedBytes, checksum } = this.#index.entry(chunkIndex)
    if (storedBytes === 0) return { encoding, rawBytes, storedBytes }
    invariant(target.length >= storedBytes, `room of ${target.length} bytes for ${storedBytes}`)
    const readBytes = await readFully(this.#data, target, offsetBytes, storedBytes)
    if (readBytes < storedBytes || crc32(target.subarray(0, storedBytes)) !== checksum) {
      throw new BootwireError(
        'CHUNK_CORRUPT',
        `Cannot read chunk ${chunkIndex} of "${this.#folder}": its bytes are not those that were written`,
      )
    }
    return { encoding, rawBytes, storedBytes }
  }

  async close(): Promise<void> {
    await this.#data.close()
  }
}

async function readIndex(path: string): Promise<VersionIndex> {
  await using file = await open(path)
  const what = `Cannot read "${path}"`
  const header = new Uint8Array(INDEX_HEADER_BYTES)
  const headerBytes = await readFully(file, header, 0, header.length)
  const length = indexLength(header.subarray(0, headerBytes), what)
  // The content hashes behind the entries, two thirds of the file, are not needed to serve it.
  const bytes = new Uint8Array(Math.min(length, (await file.stat()).size))
  const readBytes = await readFully(file, bytes, 0, bytes.length)
  return VersionIndex.decode(bytes.subarray(0, readBytes), what)
}

/** Returns how many bytes there were; fewer than asked for at the end of the file. */
async function readFully(
  file: FileHandle,
  target: Uint8Array,
  positionBytes: number,
  lengthBytes: number,
): Promise<number> {
  let done = 0
  while (done < lengthBytes) {
    const { bytesRead } = await file.read(target, done, lengthBytes - done, positionBytes + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}
