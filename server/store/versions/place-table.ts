/**
 * Where the chunks of a version lie, in columns: 19 bytes for each chunk, 52 MB for a full vDisk of
 * 100 GB. A version's file `places` (FORMAT.md) has the same columns.
 */
import { endianness } from 'node:os'
import { crc32 } from 'node:zlib'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import type { ChunkEncoding } from '#shared/wire/frame.ts'
import type { ChunkTable } from '../chunk-store.ts'

const FORMAT_VERSION = 2
const MAGIC = new TextEncoder().encode('bwplaces')
const HEADER_BYTES = 48
const PACK_ID_BYTES = 8
const PLACE_BYTES = 19
/** In place of a pack: the chunk was damaged and has been dropped. */
const LOST_PACK = 0xffff
/** Room for the chunks of 32 MiB; grown as needed. */
const CHUNKS_AT_FIRST = 1024
const IS_LITTLE_ENDIAN = endianness() === 'LE'

/** Where one chunk lies and how it is checked. */
export interface Place {
  readonly packId: string
  /** Where its header begins in the pack. */
  readonly offset: number
  readonly encoding: ChunkEncoding
  readonly storedBytes: number
  /** CRC-32 of the stored bytes. */
  readonly checksum: number
}

export interface Extent {
  readonly firstBlock: number
  readonly blocks: number
}

/** What of a version's places can be known without reading them all. */
export interface PlacesHead {
  readonly packIds: readonly string[]
  readonly chunkCount: number
  /** Chunks that have no place any more. */
  readonly lostCount: number
  readonly sizeBytes: number
}

export class PlaceTable implements ChunkTable {
  readonly sizeBytes: number
  readonly packIds: string[] = []
  readonly #packNumbers = new Map<string, number>()
  #count = 0
  #firstBlocks: Uint32Array<ArrayBuffer>
  #offsets: Uint32Array<ArrayBuffer>
  /** Encoding in the highest byte, stored length below. */
  #stored: Uint32Array<ArrayBuffer>
  #checksums: Uint32Array<ArrayBuffer>
  #packs: Uint16Array<ArrayBuffer>
  #blocks: Uint8Array<ArrayBuffer>

  constructor(sizeBytes: number, capacity = CHUNKS_AT_FIRST) {
    this.sizeBytes = sizeBytes
    this.#firstBlocks = new Uint32Array(capacity)
    this.#offsets = new Uint32Array(capacity)
    this.#stored = new Uint32Array(capacity)
    this.#checksums = new Uint32Array(capacity)
    this.#packs = new Uint16Array(capacity)
    this.#blocks = new Uint8Array(capacity)
  }

  get count(): number {
    return this.#count
  }

  firstBlock(index: number): number {
    return this.#firstBlocks[index] ?? 0
  }

  blocks(index: number): number {
    return this.#blocks[index] ?? 0
  }

  storedBytes(index: number): number {
    return (this.#stored[index] ?? 0) & 0xff_ffff
  }

  encoding(index: number): ChunkEncoding {
    return ((this.#stored[index] ?? 0) >>> 24) as ChunkEncoding
  }

  offset(index: number): number {
    return this.#offsets[index] ?? 0
  }

  checksum(index: number): number {
    return this.#checksums[index] ?? 0
  }

  /** Index in `packIds`; undefined when the chunk is lost. */
  packNumber(index: number): number | undefined {
    const pack = this.#packs[index]
    return pack === LOST_PACK ? undefined : pack
  }

  indexAt(block: number): number {
    let low = 0
    let high = this.#count
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if ((this.#firstBlocks[middle] ?? 0) <= block) low = middle
      else high = middle
    }
    const from = this.firstBlock(low)
    return block >= from && block < from + this.blocks(low) ? low : -1
  }

  /** Stored bytes of all chunks. */
  get totalStoredBytes(): number {
    let total = 0
    for (let index = 0; index < this.#count; index += 1) total += this.storedBytes(index)
    return total
  }

  get lostCount(): number {
    let lost = 0
    for (let index = 0; index < this.#count; index += 1) {
      if (this.#packs[index] === LOST_PACK) lost += 1
    }
    return lost
  }

  /** Adds the next chunk in order of blocks; one without a place is lost. */
  add({ firstBlock, blocks }: Extent, place: Place | undefined): void {
    if (this.#count === this.#blocks.length) this.#grow()
    const index = this.#count
    this.#count += 1
    this.#firstBlocks[index] = firstBlock
    this.#blocks[index] = blocks
    this.set(index, place)
  }

  set(index: number, place: Place | undefined): void {
    if (place === undefined) {
      this.#packs[index] = LOST_PACK
      return
    }
    this.#packs[index] = this.#packNumber(place.packId)
    this.#offsets[index] = place.offset
    this.#stored[index] = place.encoding * 2 ** 24 + place.storedBytes
    this.#checksums[index] = place.checksum
  }

  #packNumber(packId: string): number {
    const known = this.#packNumbers.get(packId)
    if (known !== undefined) return known
    const number = this.packIds.length
    invariant(number < LOST_PACK, `a version in ${number} packs`)
    this.packIds.push(packId)
    this.#packNumbers.set(packId, number)
    return number
  }

  #grow(): void {
    const capacity = Math.ceil(this.#blocks.length * 1.5)
    this.#firstBlocks = grown(this.#firstBlocks, new Uint32Array(capacity))
    this.#offsets = grown(this.#offsets, new Uint32Array(capacity))
    this.#stored = grown(this.#stored, new Uint32Array(capacity))
    this.#checksums = grown(this.#checksums, new Uint32Array(capacity))
    this.#packs = grown(this.#packs, new Uint16Array(capacity))
    this.#blocks = grown(this.#blocks, new Uint8Array(capacity))
  }

  /** `sizeBytes` of the vDisk, where it was not known before. */
  encode(sizeBytes: number = this.sizeBytes): Uint8Array {
    const count = this.#count
    const used = this.#usedPacks()
    const headBytes = HEADER_BYTES + used.ids.length * PACK_ID_BYTES
    const bytes = Buffer.alloc(headBytes + count * PLACE_BYTES + 4)
    bytes.set(MAGIC)
    bytes.writeUInt32BE(FORMAT_VERSION, 8)
    bytes.writeUInt32BE(used.ids.length, 12)
    bytes.writeUInt32BE(count, 16)
    bytes.writeUInt32BE(this.lostCount, 20)
    bytes.writeBigUInt64BE(BigInt(sizeBytes), 24)
    for (const [index, id] of used.ids.entries()) {
      bytes.write(id, HEADER_BYTES + index * PACK_ID_BYTES, 'hex')
    }
    bytes.writeUInt32BE(headChecksum(bytes.subarray(0, headBytes)), HEADER_BYTES - 4)
    let at = headBytes
    for (const column of [this.#firstBlocks, this.#offsets, this.#stored, this.#checksums]) {
      at += putColumn(bytes, at, column.slice(0, count))
    }
    const packs = this.#packs.slice(0, count).map((pack) => used.numbers[pack] ?? LOST_PACK)
    at += putColumn(bytes, at, packs)
    at += putColumn(bytes, at, this.#blocks.slice(0, count))
    bytes.writeUInt32BE(crc32(bytes.subarray(headBytes, at)), at)
    return bytes
  }

  /** Packs that still hold a chunk, and the number each has among them. */
  #usedPacks(): { readonly ids: string[]; readonly numbers: Uint16Array } {
    const numbers = new Uint16Array(this.packIds.length).fill(LOST_PACK)
    const ids: string[] = []
    for (let index = 0; index < this.#count; index += 1) {
      const pack = this.#packs[index] ?? LOST_PACK
      if (pack === LOST_PACK || numbers[pack] !== LOST_PACK) continue
      numbers[pack] = ids.length
      ids.push(this.packIds[pack] ?? '')
    }
    return { ids, numbers }
  }

  /** @throws {BootwireError} STATE_UNREADABLE naming the path */
  static decode(file: Uint8Array, path: string): PlaceTable {
    const { packIds, chunkCount, sizeBytes } = decodePlacesHead(file, path)
    const headBytes = HEADER_BYTES + packIds.length * PACK_ID_BYTES
    const bytes = Buffer.from(file.buffer, file.byteOffset, file.length)
    const end = headBytes + chunkCount * PLACE_BYTES
    if (bytes.length !== end + 4) {
      throw unreadable(path, `it has ${bytes.length} bytes for ${chunkCount} chunks`)
    }
    if (crc32(bytes.subarray(headBytes, end)) !== bytes.readUInt32BE(end)) {
      throw unreadable(path, 'its checksum does not fit')
    }
    const table = new PlaceTable(sizeBytes, chunkCount)
    for (const packId of packIds) table.#packNumber(packId)
    table.#count = chunkCount
    let at = headBytes
    for (const column of [table.#firstBlocks, table.#offsets, table.#stored, table.#checksums]) {
      at += takeColumn(bytes, at, column)
    }
    at += takeColumn(bytes, at, table.#packs)
    takeColumn(bytes, at, table.#blocks)
    return table
  }
}

/** Length of a places file's head, from its first bytes; they may be more than that. */
export function placesHeadBytes(bytes: Uint8Array, path: string): number {
  if (bytes.length < HEADER_BYTES) throw unreadable(path, 'it is too short')
  if (!MAGIC.every((byte, at) => bytes[at] === byte)) throw unreadable(path, 'it is no table')
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const format = view.getUint32(8)
  if (format !== FORMAT_VERSION) {
    throw unreadable(path, `it has format ${format}, expected ${FORMAT_VERSION}`)
  }
  const packCount = view.getUint32(12)
  if (packCount >= LOST_PACK) throw unreadable(path, `it names ${packCount} packs`)
  return HEADER_BYTES + packCount * PACK_ID_BYTES
}

/** @throws {BootwireError} STATE_UNREADABLE naming the path */
export function decodePlacesHead(file: Uint8Array, path: string): PlacesHead {
  const headBytes = placesHeadBytes(file, path)
  if (file.length < headBytes) throw unreadable(path, 'it is cut off')
  const head = Buffer.from(file.buffer, file.byteOffset, headBytes)
  if (headChecksum(head) !== head.readUInt32BE(HEADER_BYTES - 4)) {
    throw unreadable(path, 'the checksum of its head does not fit')
  }
  const packIds: string[] = []
  for (let at = HEADER_BYTES; at < headBytes; at += PACK_ID_BYTES) {
    packIds.push(head.toString('hex', at, at + PACK_ID_BYTES))
  }
  return {
    packIds,
    chunkCount: head.readUInt32BE(16),
    lostCount: head.readUInt32BE(20),
    sizeBytes: Number(head.readBigUInt64BE(24)),
  }
}

/** Over the head but for its own place. */
function headChecksum(head: Uint8Array): number {
  return crc32(head.subarray(HEADER_BYTES), crc32(head.subarray(0, HEADER_BYTES - 4)))
}

type Column = Uint32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>

/** Puts a column into a file as big-endian numbers; its own memory is changed. */
function putColumn(target: Buffer, at: number, column: Column): number {
  const bytes = Buffer.from(column.buffer, column.byteOffset, column.byteLength)
  swapBytes(bytes, column.BYTES_PER_ELEMENT)
  target.set(bytes, at)
  return bytes.length
}

function takeColumn(source: Uint8Array, at: number, column: Column): number {
  const bytes = Buffer.from(column.buffer, column.byteOffset, column.byteLength)
  bytes.set(source.subarray(at, at + bytes.length))
  swapBytes(bytes, column.BYTES_PER_ELEMENT)
  return bytes.length
}

function swapBytes(bytes: Buffer, unitBytes: number): void {
  if (!IS_LITTLE_ENDIAN) return
  if (unitBytes === 4) bytes.swap32()
  if (unitBytes === 2) bytes.swap16()
}

function grown<T extends Column>(column: T, larger: T): T {
  larger.set(column)
  return larger
}

function unreadable(path: string, why: string): BootwireError {
  return new BootwireError('STATE_UNREADABLE', `Cannot read "${path}": ${why}`)
}
