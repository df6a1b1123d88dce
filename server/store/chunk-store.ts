/**
 * Where the bytes of vDisk versions lie. The interface the rest of the server knows; *Stream* fills
 * it with a content-addressed store, today `file-chunk-store.ts` keeps one file per version.
 */
import type { ChunkEncoding } from '#shared/wire/frame.ts'

/** A chunk as it is stored, which is how it is sent. */
export interface StoredChunk {
  readonly encoding: ChunkEncoding
  /** Length once decoded. */
  readonly rawBytes: number
  /** How many bytes were put at the beginning of the target; 0 for a zero chunk. */
  readonly storedBytes: number
}

/** One immutable version, opened for reading. Many sessions share one reader. */
export interface VersionReader {
  readonly sizeBytes: number
  readonly chunkBytes: number
  /**
   * Reads a chunk as it is stored into the caller's memory, at least `CHUNK_BYTES_MAX` long: behind
   * the room for a frame header, so that read and send are all that happens to the bytes.
   * @throws {BootwireError} CHUNK_CORRUPT when the stored bytes are not what was written.
   */
  readChunk(chunkIndex: number, target: Uint8Array): Promise<StoredChunk>
  close(): Promise<void>
}

/** Receives an image from its first byte to its last; nothing is visible before `commit`. */
export interface VersionWriter {
  /** Appends the next bytes of the image, any number of them. */
  append(bytes: Uint8Array): Promise<void>
  /** Appends zeros, without their being read or stored. */
  appendZeros(lengthBytes: number): Promise<void>
  /** Makes the version durable and visible, atomically. Returns its id (hash of its content, hex). */
  commit(): Promise<CommittedVersion>
  /** Leaves nothing behind. Safe to call at any time, also after `commit`. */
  abort(): Promise<void>
}

export interface CommittedVersion {
  readonly versionId: string
  readonly sizeBytes: number
  readonly storedBytes: number
}

export interface ChunkStore {
  createVersion(): Promise<VersionWriter>
  /** @throws {BootwireError} NOT_FOUND, STATE_UNREADABLE */
  openVersion(versionId: string): Promise<VersionReader>
  removeVersion(versionId: string): Promise<void>
  listVersions(): Promise<string[]>
  close(): Promise<void>
}
