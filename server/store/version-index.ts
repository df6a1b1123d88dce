/**
 * The index file of FORMAT.md: where each chunk of a version lies and how it is checked. Built entry
 * by entry while a version is written, read whole when it is opened.
 */
import { createHash } from 'node:crypto'
import { type ChunkGrid, chunkCount, chunkLength } from '#shared/chunk/chunk-math.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { CHUNK_ENCODING, type ChunkEncoding } from '#shared/wire/frame.ts'

const MAGIC = new TextEncoder().encode('bwindex\n')
const FORMAT_VERSION = 1
const VERSION_ID_SALT = 'bootwire version 1'

export const INDEX_HEADER_BYTES = 64
const HASHED_HEADER_BYTES = 32
const ENTRY_BYTES = 16
export const HASH_BYTES = 32

/** Room for the chunks of a 64 MiB image; doubled as needed. */
const CHUNKS_AT_FIRST = 1024

export interface ChunkEntry {
  /** Where the stored bytes begin in the data file. */
  readonly offsetBytes: number
  readonly storedBytes: number
  readonly encoding: ChunkEncoding
  /** CRC-32 of the stored bytes. */
  readonly checksum: number
}

/** A chunk that was encoded, in the order of the vDisk. */
export interface EncodedChunk {
  readonly encoding: ChunkEncoding
  readonly storedBytes: number
  readonly checksum: number
  /** SHA-256 of the chunk once decoded. */
  readonly contentHash: Uint8Array
}

export class IndexBuilder {
  readonly #chunkBytes: number
  #entries = new Uint8Array(CHUNKS_AT_FIRST * ENTRY_BYTES)
  #hashes = new Uint8Array(CHUNKS_AT_FIRST * HASH_BYTES)
  #count = 0
  #storedBytes = 0

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes
  }

  /** Bytes of the data file so far: where the next chunk begins. */
  get storedBytes(): number {
    return this.#storedBytes
  }

  add(chunk: EncodedChunk): void {
    invariant(chunk.contentHash.length === HASH_BYTES, 'a content hash is a SHA-256')
    if ((this.#count + 1) * ENTRY_BYTES > this.#entries.length) this.#grow()
    if (chunk.storedBytes > 0) {
      const entry = viewOf(this.#entries.subarray(this.#count * ENTRY_BYTES))
      writeUint48(entry, 0, this.#storedBytes)
      entry.setUint8(6, chunk.encoding)
      entry.setUint32(8, chunk.storedBytes)
      entry.setUint32(12, chunk.checksum)
    }
    this.#hashes.set(chunk.contentHash, this.#count * HASH_BYTES)
    this.#count += 1
    this.#storedBytes += chunk.storedBytes
  }

  /** Returns the index file and the version's id. */
  finish(sizeBytes: number): { readonly versionId: string; readonly index: Uint8Array } {
    const grid = { sizeBytes, chunkBytes: this.#chunkBytes }
    invariant(chunkCount(grid) === this.#count, `${this.#count} chunks for ${sizeBytes} bytes`)
    const entries = this.#entries.subarray(0, this.#count * ENTRY_BYTES)
    const hashes = this.#hashes.subarray(0, this.#count * HASH_BYTES)
    const header = encodeHeader(grid, entries)
    return { versionId: versionIdOf(grid, hashes), index: Buffer.concat([header, entries, hashes]) }
  }

  #grow(): void {
    this.#entries = doubled(this.#entries)
    this.#hashes = doubled(this.#hashes)
  }
}

/** Header and entries of an index file, checked. Immutable. */
export class VersionIndex implements ChunkGrid {
  readonly sizeBytes: number
  readonly chunkBytes: number
  readonly #entries: DataView

  private constructor(grid: ChunkGrid, entries: Uint8Array) {
    this.sizeBytes = grid.sizeBytes
    this.chunkBytes = grid.chunkBytes
    this.#entries = viewOf(entries)
  }

  /**
   * `bytes` holds header and entries; content hashes behind them are not looked at.
   * @throws {BootwireError} STATE_UNREADABLE, whose message begins with `what`
   */
  static decode(bytes: Uint8Array, what: string): VersionIndex {
    const grid = decodeHeader(bytes, what)
    const end = INDEX_HEADER_BYTES + chunkCount(grid) * ENTRY_BYTES
    if (bytes.length < end) throw unreadable(what, 'it is shorter than its header says')
    const entries = bytes.subarray(INDEX_HEADER_BYTES, end)
    const stored = bytes.subarray(HASHED_HEADER_BYTES, INDEX_HEADER_BYTES)
    if (Buffer.compare(headerHash(bytes, entries), stored) !== 0) {
      throw unreadable(what, 'its checksum does not fit')
    }
    return new VersionIndex(grid, entries)
  }

  entry(chunkIndex: number): ChunkEntry {
    invariant(chunkIndex >= 0 && chunkIndex < chunkCount(this), `chunk ${chunkIndex}`)
    const at = chunkIndex * ENTRY_BYTES
    return {
      offsetBytes: readUint48(this.#entries, at),
      encoding: this.#entries.getUint8(at + 6) as ChunkEncoding,
      storedBytes: this.#entries.getUint32(at + 8),
      checksum: this.#entries.getUint32(at + 12),
    }
  }

  /** Bytes the data file must have. */
  get dataBytes(): number {
    let end = 0
    for (let index = 0; index < chunkCount(this); index += 1) {
      const { offsetBytes, storedBytes, encoding } = this.entry(index)
      invariant(
        encoding === CHUNK_ENCODING.zero || storedBytes <= chunkLength(this, index),
        `chunk ${index} is stored longer than it is`,
      )
      end = Math.max(end, offsetBytes + storedBytes)
    }
    return end
  }
}

/** Returns how long header and entries are, from the header alone. @throws {BootwireError} STATE_UNREADABLE */
export function indexLength(header: Uint8Array, what: string): number {
  return INDEX_HEADER_BYTES + chunkCount(decodeHeader(header, what)) * ENTRY_BYTES
}

function encodeHeader(grid: ChunkGrid, entries: Uint8Array): Uint8Array {
  const header = new Uint8Array(INDEX_HEADER_BYTES)
  const view = viewOf(header)
  header.set(MAGIC)
  view.setUint32(8, FORMAT_VERSION)
  view.setUint32(12, grid.chunkBytes)
  view.setBigUint64(16, BigInt(grid.sizeBytes))
  view.setUint32(24, chunkCount(grid))
  header.set(headerHash(header, entries), HASHED_HEADER_BYTES)
  return header
}

function decodeHeader(bytes: Uint8Array, what: string): ChunkGrid {
  if (bytes.length < INDEX_HEADER_BYTES) throw unreadable(what, 'it is too short')
  const view = viewOf(bytes)
  if (!MAGIC.every((byte, at) => bytes[at] === byte)) throw unreadable(what, 'it is no index')
  const format = view.getUint32(8)
  if (format !== FORMAT_VERSION) {
    throw unreadable(what, `it has format ${format}, expected ${FORMAT_VERSION}`)
  }
  const grid = { chunkBytes: view.getUint32(12), sizeBytes: Number(view.getBigUint64(16)) }
  const isGrid = grid.chunkBytes > 0 && Number.isSafeInteger(grid.sizeBytes)
  if (!isGrid || view.getUint32(24) !== chunkCount(grid)) {
    throw unreadable(what, 'its header contradicts itself')
  }
  return grid
}

function headerHash(header: Uint8Array, entries: Uint8Array): Buffer {
  const hash = createHash('sha256').update(header.subarray(0, HASHED_HEADER_BYTES))
  return hash.update(entries).digest()
}

function versionIdOf(grid: ChunkGrid, hashes: Uint8Array): string {
  const numbers = new DataView(new ArrayBuffer(12))
  numbers.setUint32(0, grid.chunkBytes)
  numbers.setBigUint64(4, BigInt(grid.sizeBytes))
  const hash = createHash('sha256').update(VERSION_ID_SALT)
  return hash.update(new Uint8Array(numbers.buffer)).update(hashes).digest('hex')
}

function writeUint48(view: DataView, offset: number, value: number): void {
  invariant(Number.isSafeInteger(value) && value < 2 ** 48, `offset ${value}`)
  view.setUint16(offset, Math.floor(value / 2 ** 32))
  view.setUint32(offset + 2, value % 2 ** 32)
}

function readUint48(view: DataView, offset: number): number {
  return view.getUint16(offset) * 2 ** 32 + view.getUint32(offset + 2)
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function doubled(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(bytes.length * 2)
  larger.set(bytes)
  return larger
}

function unreadable(what: string, why: string): BootwireError {
  return new BootwireError('STATE_UNREADABLE', `${what}: ${why}`)
}
