/** The bytes of packs and their indexes (FORMAT.md). A pack says of itself what its index says. */
import { crc32 } from 'node:zlib'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { HASH_BYTES } from '#shared/manifest/content-hash.ts'
import { KiB, MiB } from '#shared/units.ts'
import { CHUNK_ENCODING, type ChunkEncoding } from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

/** A pack is closed at this length: what garbage collection removes or moves in one piece. */
export const PACK_BYTES_MAX: number = 256 * MiB

const FORMAT_VERSION = 2
const PACK_MAGIC = new TextEncoder().encode('bwpack\r\n')
const INDEX_MAGIC = new TextEncoder().encode('bwindex\n')

export const PACK_HEADER_BYTES = 16
/** Before each chunk of a pack. */
export const CHUNK_HEADER_BYTES = 48
const INDEX_HEADER_BYTES = 32
const INDEX_ENTRY_BYTES = 48

/** Room for a chunk's header, and for its data however it comes out (ZSTD_COMPRESSBOUND). */
export const RECORD_BYTES_MAX: number = CHUNK_HEADER_BYTES + CHUNK_BYTES_MAX + KiB

/** What is known of a chunk in a pack. */
export interface PackedChunk {
  readonly hash: Uint8Array
  readonly encoding: ChunkEncoding
  readonly rawBytes: number
  readonly storedBytes: number
  /** CRC-32 of the stored bytes. */
  readonly checksum: number
}

export interface IndexEntry extends PackedChunk {
  /** Where the chunk's header begins in the pack. */
  readonly offset: number
}

export function encodePackHeader(): Uint8Array {
  const header = new Uint8Array(PACK_HEADER_BYTES)
  header.set(PACK_MAGIC)
  viewOf(header).setUint32(8, FORMAT_VERSION)
  return header
}

/** Returns what is wrong with the beginning of a pack; undefined when nothing is. */
export function packHeaderFault(header: Uint8Array): string | undefined {
  const expected = encodePackHeader()
  if (header.length < expected.length) return 'it is too short'
  if (!PACK_MAGIC.every((byte, at) => header[at] === byte)) return 'it is no pack'
  const format = viewOf(header).getUint32(8)
  return format === FORMAT_VERSION ? undefined : `it has format ${format}`
}

/** hash, encoding u8, raw length u24, stored length u32, CRC of the stored bytes, CRC of these 44 */
export function writeChunkHeader(target: Uint8Array, at: number, chunk: PackedChunk): void {
  writeChunk(target, at, chunk)
  const checked = target.subarray(at, at + CHUNK_HEADER_BYTES - 4)
  viewOf(target).setUint32(at + CHUNK_HEADER_BYTES - 4, crc32(checked))
}

/** Returns undefined when there is no whole header. */
export function readChunkHeader(bytes: Uint8Array, at: number): PackedChunk | undefined {
  if (at + CHUNK_HEADER_BYTES > bytes.length) return undefined
  const chunk = readChunk(bytes, at)
  if (!isPlausible(chunk)) return undefined
  const checked = bytes.subarray(at, at + CHUNK_HEADER_BYTES - 4)
  const checksum = viewOf(bytes).getUint32(at + CHUNK_HEADER_BYTES - 4)
  return crc32(checked) === checksum ? chunk : undefined
}

/** True when both say the same of a chunk. */
export function isSameChunk(a: PackedChunk, b: PackedChunk): boolean {
  return (
    a.encoding === b.encoding &&
    a.rawBytes === b.rawBytes &&
    a.storedBytes === b.storedBytes &&
    a.checksum === b.checksum &&
    Buffer.compare(a.hash, b.hash) === 0
  )
}

/** Index of a pack that is `packBytes` long. */
export function encodeIndex(entries: IndexEntries, packBytes: number): Uint8Array {
  const bytes = new Uint8Array(INDEX_HEADER_BYTES + entries.count * INDEX_ENTRY_BYTES)
  const view = viewOf(bytes)
  bytes.set(INDEX_MAGIC)
  view.setUint32(8, FORMAT_VERSION)
  view.setUint32(12, entries.count)
  view.setBigUint64(16, BigInt(packBytes))
  bytes.set(entries.bytes, INDEX_HEADER_BYTES)
  view.setUint32(28, indexChecksum(bytes))
  return bytes
}

/** Number of chunks in an index of this length. */
export function entryCount(indexBytes: number): number {
  return Math.max(0, Math.floor((indexBytes - INDEX_HEADER_BYTES) / INDEX_ENTRY_BYTES))
}

export interface PackIndex {
  readonly packBytes: number
  readonly entries: IndexEntries
}

/** @throws {BootwireError} STATE_UNREADABLE naming the path */
export function decodeIndex(bytes: Uint8Array, path: string): PackIndex {
  const refuse = (why: string) =>
    new BootwireError('STATE_UNREADABLE', `Cannot read "${path}": ${why}`)
  if (bytes.length < INDEX_HEADER_BYTES) throw refuse('it is too short')
  const view = viewOf(bytes)
  if (!INDEX_MAGIC.every((byte, at) => bytes[at] === byte)) throw refuse('it is no index')
  const format = view.getUint32(8)
  if (format !== FORMAT_VERSION) throw refuse(`it has format ${format}, expected ${FORMAT_VERSION}`)
  const count = view.getUint32(12)
  if (bytes.length !== INDEX_HEADER_BYTES + count * INDEX_ENTRY_BYTES) {
    throw refuse(`it has ${bytes.length} bytes for ${count} chunks`)
  }
  if (indexChecksum(bytes) !== view.getUint32(28)) throw refuse('its checksum does not fit')
  const entries = IndexEntries.of(bytes.subarray(INDEX_HEADER_BYTES))
  return { packBytes: Number(view.getBigUint64(16)), entries }
}

/** The chunks of a pack in the order of their offsets, as they stand in its index: 48 bytes each. */
export class IndexEntries {
  #bytes: Uint8Array
  #count: number

  constructor() {
    this.#bytes = new Uint8Array(64 * INDEX_ENTRY_BYTES)
    this.#count = 0
  }

  static of(bytes: Uint8Array): IndexEntries {
    const entries = new IndexEntries()
    entries.#bytes = bytes
    entries.#count = bytes.length / INDEX_ENTRY_BYTES
    return entries
  }

  get count(): number {
    return this.#count
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#count * INDEX_ENTRY_BYTES)
  }

  add(entry: IndexEntry): void {
    const at = this.#count * INDEX_ENTRY_BYTES
    if (at + INDEX_ENTRY_BYTES > this.#bytes.length) this.#grow()
    writeChunk(this.#bytes, at, entry)
    viewOf(this.#bytes).setUint32(at + 44, entry.offset)
    this.#count += 1
  }

  get(index: number): IndexEntry {
    invariant(index >= 0 && index < this.#count, `entry ${index} of ${this.#count}`)
    const at = index * INDEX_ENTRY_BYTES
    return { ...readChunk(this.#bytes, at), offset: this.offset(index) }
  }

  offset(index: number): number {
    return readUint32(this.#bytes, index * INDEX_ENTRY_BYTES + 44)
  }

  /** Whole length in the pack, header included. */
  recordBytes(index: number): number {
    return CHUNK_HEADER_BYTES + readUint32(this.#bytes, index * INDEX_ENTRY_BYTES + 36)
  }

  /** First 4 bytes of the hash, and the 4 behind them. */
  hashWords(index: number): readonly [number, number] {
    const at = index * INDEX_ENTRY_BYTES
    return [readUint32(this.#bytes, at), readUint32(this.#bytes, at + 4)]
  }

  hash(index: number): Uint8Array {
    const at = index * INDEX_ENTRY_BYTES
    return this.#bytes.subarray(at, at + HASH_BYTES)
  }

  /** Index of the chunk whose header begins at an offset; -1 when there is none. */
  indexOf(offset: number): number {
    let low = 0
    let high = this.#count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.offset(middle) < offset) low = middle + 1
      else high = middle
    }
    return low < this.#count && this.offset(low) === offset ? low : -1
  }

  #grow(): void {
    const larger = new Uint8Array(this.#bytes.length * 2)
    larger.set(this.#bytes)
    this.#bytes = larger
  }
}

function writeChunk(target: Uint8Array, at: number, chunk: PackedChunk): void {
  const view = viewOf(target)
  target.set(chunk.hash, at)
  view.setUint32(at + 32, chunk.encoding * 2 ** 24 + chunk.rawBytes)
  view.setUint32(at + 36, chunk.storedBytes)
  view.setUint32(at + 40, chunk.checksum)
}

function readChunk(bytes: Uint8Array, at: number): PackedChunk {
  const view = viewOf(bytes)
  const word = view.getUint32(at + 32)
  return {
    hash: bytes.subarray(at, at + HASH_BYTES),
    encoding: (word >>> 24) as ChunkEncoding,
    rawBytes: word & 0xff_ffff,
    storedBytes: view.getUint32(at + 36),
    checksum: view.getUint32(at + 40),
  }
}

function isPlausible({ encoding, rawBytes, storedBytes }: PackedChunk): boolean {
  const isEncoding = encoding === CHUNK_ENCODING.raw || encoding === CHUNK_ENCODING.zstd
  return isEncoding && rawBytes <= CHUNK_BYTES_MAX && storedBytes > 0 && storedBytes <= rawBytes
}

function indexChecksum(bytes: Uint8Array): number {
  return crc32(bytes.subarray(INDEX_HEADER_BYTES), crc32(bytes.subarray(0, 28)))
}

function readUint32(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] ?? 0) * 2 ** 24 +
    (((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0))
  )
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
