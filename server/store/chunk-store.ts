/**
 * Where the bytes of vDisk versions lie, addressed by their content: the interface the rest of the
 * server knows. What lies on the disk is in FORMAT.md.
 */
import type { SignedRoot } from '#shared/manifest/version-root.ts'
import type { ChunkEncoding, ObjectName } from '#shared/wire/frame.ts'

/** An object as it is stored, which is how it is sent. */
export interface StoredObject {
  readonly encoding: ChunkEncoding
  /** For a chunk its first block, whichever of its blocks was asked for. */
  readonly position: number
  /** Length once decoded. */
  readonly rawBytes: number
  /** How many bytes were put at the beginning of the target. */
  readonly storedBytes: number
}

/** The chunks of a version in order of their place, without zeros. */
export interface ChunkTable {
  readonly count: number
  firstBlock(index: number): number
  blocks(index: number): number
  storedBytes(index: number): number
  /** Index of the chunk that covers a block, -1 when the block is zero. */
  indexAt(block: number): number
}

/** One immutable version, opened for reading. Many sessions share one reader. */
export interface VersionReader {
  readonly versionId: string
  readonly signedRoot: SignedRoot
  readonly sizeBytes: number
  /** Of all its chunks, those it shares with other versions included. */
  readonly storedBytes: number
  readonly chunks: ChunkTable
  /**
   * Reads a chunk or a node as it is stored into the caller's memory, which has room for it:
   * `chunks.storedBytes` for a chunk, LEAF_BYTES_MAX for a leaf. Nothing behind the object is touched.
   * Returns undefined where everything is zero or there is no such object.
   * @throws {BootwireError} CHUNK_CORRUPT when the stored bytes are not what was written, or missing
   */
  readObject(name: ObjectName, target: Uint8Array): Promise<StoredObject | undefined>
  /** Content hashes of all chunks, 32 bytes each, in the order of `chunks`. */
  readHashes(): Promise<Uint8Array>
  close(): Promise<void>
}

/** Receives an image from its first byte to its last; nothing is visible before `commit`. */
export interface VersionWriter {
  /** Appends the next bytes of the image, any number of them. */
  append(bytes: Uint8Array): Promise<void>
  /** Appends zeros, without their being read or stored. */
  appendZeros(lengthBytes: number): Promise<void>
  /** Makes the version durable and visible, atomically. */
  commit(): Promise<CommittedVersion>
  /** Leaves nothing visible. Safe to call at any time, also after `commit`. */
  abort(): Promise<void>
}

export interface CommittedVersion {
  /** Hash of the root record, hex. */
  readonly versionId: string
  readonly sizeBytes: number
  readonly storedBytes: number
  /** Stored bytes of chunks that were in the store already. */
  readonly sharedBytes: number
  /** Chunks that were in the store, damaged, and were stored anew. */
  readonly mendedChunks: number
}

export interface GarbageReport {
  readonly removedChunks: number
  readonly removedBytes: number
  /** Dead bytes that stay because they lie among live ones; a later run takes them. */
  readonly keptDeadBytes: number
}

export interface CheckOptions {
  /** Part of the chunks whose data is read and hashed, 0 to 1; the rest is only looked for. */
  readonly readDataShare: number
  /** Forget damaged chunks, so that an import stores them again, and rebuild what can be derived. */
  readonly repair: boolean
}

export interface CheckProgress {
  readonly doneBytes: number
  readonly totalBytes: number
}

export interface CheckReport {
  readonly versions: number
  readonly chunks: number
  readonly storedBytes: number
  /** Chunks whose data was read and hashed. */
  readonly chunksRead: number
  readonly damages: readonly StoreDamage[]
  /** What was put in order, as sentences; empty without `repair`. */
  readonly repairs: readonly string[]
  /** Versions that no repair makes whole: their images are to be imported again. Empty without `repair`. */
  readonly incompleteIds: readonly string[]
}

export interface StoreDamage {
  /** A sentence: which file or chunk, and what is wrong with it. */
  readonly text: string
  /** Versions that cannot be read whole because of it. */
  readonly versionIds: readonly string[]
}

export interface ChunkStore {
  /** @throws {BootwireError} STORE_FULL */
  createVersion(): Promise<VersionWriter>
  /** @throws {BootwireError} NOT_FOUND, STATE_UNREADABLE */
  openVersion(versionId: string): Promise<VersionReader>
  /** Its chunks stay until `collectGarbage`. Readers that are open stay so. */
  removeVersion(versionId: string): Promise<void>
  listVersions(): Promise<string[]>
  /** Removes chunks that no version holds; versions may be read and written meanwhile. */
  collectGarbage(signal: AbortSignal): Promise<GarbageReport>
  check(
    options: CheckOptions,
    onProgress: (progress: CheckProgress) => void,
    signal: AbortSignal,
  ): Promise<CheckReport>
  close(): Promise<void>
}
