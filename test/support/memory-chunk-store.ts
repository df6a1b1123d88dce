/** A ChunkStore in memory: raw chunks, and zero chunks where an image has zeros. */
import { createHash } from 'node:crypto'
import type {
  ChunkStore,
  CommittedVersion,
  VersionReader,
  VersionWriter,
} from '#server/store/chunk-store.ts'
import { chunkLength, chunkOffset } from '#shared/chunk/chunk-math.ts'
import { BootwireError } from '#shared/errors.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'

export const MEMORY_CHUNK_BYTES = 4096

export class MemoryChunkStore implements ChunkStore {
  /** Readers that are open right now. */
  openReaders = 0
  /** Set to have reads of this chunk fail. */
  corruptChunk: number | undefined
  readonly versions = new Map<string, Uint8Array>()

  /** Stores an image as a version at once. */
  add(image: Uint8Array): CommittedVersion {
    const versionId = createHash('sha256').update(image).digest('hex')
    this.versions.set(versionId, image)
    return { versionId, sizeBytes: image.length, storedBytes: image.length }
  }

  async createVersion(): Promise<VersionWriter> {
    const parts: Uint8Array[] = []
    return {
      append: async (bytes) => void parts.push(Uint8Array.from(bytes)),
      appendZeros: async (lengthBytes) => void parts.push(new Uint8Array(lengthBytes)),
      commit: async () => this.add(Buffer.concat(parts)),
      abort: async () => void parts.splice(0),
    }
  }

  async openVersion(versionId: string): Promise<VersionReader> {
    const image = this.versions.get(versionId)
    if (image === undefined) {
      throw new BootwireError('NOT_FOUND', `Cannot find version ${versionId}`)
    }
    this.openReaders += 1
    const grid = { sizeBytes: image.length, chunkBytes: MEMORY_CHUNK_BYTES }
    return {
      ...grid,
      readChunk: async (chunkIndex, target) => {
        if (chunkIndex === this.corruptChunk) {
          throw new BootwireError('CHUNK_CORRUPT', `Cannot read chunk ${chunkIndex}: /secret/path`)
        }
        const rawBytes = chunkLength(grid, chunkIndex)
        const offset = chunkOffset(grid, chunkIndex)
        const bytes = image.subarray(offset, offset + rawBytes)
        if (bytes.every((byte) => byte === 0)) {
          return { encoding: CHUNK_ENCODING.zero, rawBytes, storedBytes: 0 }
        }
        target.set(bytes)
        return { encoding: CHUNK_ENCODING.raw, rawBytes, storedBytes: rawBytes }
      },
      close: async () => {
        this.openReaders -= 1
      },
    }
  }

  async removeVersion(versionId: string): Promise<void> {
    this.versions.delete(versionId)
  }

  async listVersions(): Promise<string[]> {
    return [...this.versions.keys()]
  }

  async close(): Promise<void> {
    // Nothing is open.
  }
}
