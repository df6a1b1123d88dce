/**
 * GUID partition tables, as far as partitions of ours need them (UEFI 2.10, chapter 5): finding
 * partitions by type, making a table with some, and changing the type of one. Both copies of the table
 * are checked by their CRCs, and both are written.
 */
import { randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { invariant } from '#shared/invariant.ts'
import { MiB } from '#shared/units.ts'

/** What marks a partition as ours, and for what: random GUIDs that are nothing else's. */
export const PARTITION_TYPES = {
  cache: 'b0d73592-3b21-4107-af76-1915ed92adec',
  writeArea: '7b1f4a0e-52c3-4d86-9f3c-c1d0a65e8b27',
  identity: '7a1f0a3c-6a0e-4b1b-9d5a-2a6d0c9f7e11',
} as const
export type PartitionUse = keyof typeof PARTITION_TYPES
const PARTITION_NAMES: Readonly<Record<PartitionUse, string>> = {
  cache: 'bootwire cache',
  writeArea: 'bootwire writes',
  identity: 'bootwire identity',
}

const SIGNATURE = Buffer.from('EFI PART')
const REVISION = 0x1_0000
const HEADER_BYTES = 92
const ENTRY_BYTES = 128
const ENTRIES = 128
/** Tables of 128 entries are what everybody makes; more than this is no table. */
const ENTRIES_BYTES_MAX = 1024 * 1024

/** Name of a partition in UTF-16, 36 units. */
const NAME_OFFSET = 56

export interface DiskBytes {
  readonly sizeBytes: number
  /** Bytes of a logical block, which the table counts in. */
  readonly sectorBytes: number
  readonly read: (offset: number, length: number) => Promise<Buffer>
}

export interface GptPartition {
  /** As in the name of its device, from 1. */
  readonly number: number
  readonly type: string
  readonly offsetBytes: number
  readonly sizeBytes: number
}

/** A piece of a disk that is to be written. */
export interface DiskWrite {
  readonly offset: number
  readonly bytes: Buffer
}

interface Table {
  readonly header: Buffer
  readonly entries: Buffer
  readonly entryBytes: number
}

/** Partitions by the first sound copy of the table; undefined when there is none. */
export async function readPartitions(disk: DiskBytes): Promise<GptPartition[] | undefined> {
  const table = (await readTable(disk, 1)) ?? (await readTable(disk, lastSector(disk)))
  return table && partitionsOf(table, disk)
}

/** The writes that make a partition ours. Returns undefined when the disk has no sound table. */
export async function changeType(
  disk: DiskBytes,
  partition: number,
  use: PartitionUse,
): Promise<DiskWrite[] | undefined> {
  const table = (await readTable(disk, 1)) ?? (await readTable(disk, lastSector(disk)))
  if (table === undefined) return undefined
  const { entryBytes } = table
  const entries = Buffer.from(table.entries)
  encodeGuid(PARTITION_TYPES[use]).copy(entries, (partition - 1) * entryBytes)
  return writesOf(disk, table.header, entries)
}

/** A partition that is to be made. */
export interface NewPartition {
  readonly use: PartitionUse
  /** The last may leave it out: it has all that is left. */
  readonly sizeBytes?: number
}

export interface NewTable {
  readonly writes: readonly DiskWrite[]
  /** In the order in which they were asked for. */
  readonly partitions: readonly GptPartition[]
}

/** What puts a table on an empty disk, with partitions of ours that begin and end at whole MiB. */
export function newTable(disk: Omit<DiskBytes, 'read'>, wanted: readonly NewPartition[]): NewTable {
  const { sectorBytes } = disk
  const firstUsable = 2 + sectorsOfEntries(sectorBytes)
  const lastUsable = lastSector(disk) - 1 - sectorsOfEntries(sectorBytes)
  const align = MiB / sectorBytes
  const end = Math.floor((lastUsable + 1) / align) * align
  const entries = Buffer.alloc(ENTRIES * ENTRY_BYTES)
  let first = Math.ceil(firstUsable / align) * align
  for (const [index, { use, sizeBytes }] of wanted.entries()) {
    const sectors =
      sizeBytes === undefined ? end - first : Math.floor(sizeBytes / MiB) * (MiB / sectorBytes)
    invariant(sectors > 0 && first + sectors <= end, 'the partitions fit the disk')
    const entry = entries.subarray(index * ENTRY_BYTES)
    encodeGuid(PARTITION_TYPES[use]).copy(entry, 0)
    randomGuid().copy(entry, 16)
    entry.writeBigUInt64LE(BigInt(first), 32)
    entry.writeBigUInt64LE(BigInt(first + sectors - 1), 40)
    entry.write(PARTITION_NAMES[use], NAME_OFFSET, 'utf16le')
    first += sectors
  }
  const header = Buffer.alloc(sectorBytes)
  SIGNATURE.copy(header)
  header.writeUInt32LE(REVISION, 8)
  header.writeUInt32LE(HEADER_BYTES, 12)
  header.writeBigUInt64LE(BigInt(firstUsable), 40)
  header.writeBigUInt64LE(BigInt(lastUsable), 48)
  randomGuid().copy(header, 56)
  header.writeUInt32LE(ENTRIES, 80)
  header.writeUInt32LE(ENTRY_BYTES, 84)
  const mbr = { offset: 0, bytes: protectiveMbr(disk) }
  return {
    writes: [...writesOf(disk, header, entries), mbr],
    partitions: partitionsIn(entries, ENTRY_BYTES, sectorBytes),
  }
}

async function readTable(disk: DiskBytes, sector: number): Promise<Table | undefined> {
  const { sectorBytes, sizeBytes } = disk
  if ((sector + 1) * sectorBytes > sizeBytes || sector < 1) return undefined
  const header = await disk.read(sector * sectorBytes, sectorBytes)
  const headerBytes = header.readUInt32LE(12)
  if (!header.subarray(0, SIGNATURE.length).equals(SIGNATURE)) return undefined
  if (headerBytes < HEADER_BYTES || headerBytes > sectorBytes) return undefined
  if (header.readUInt32LE(16) !== headerChecksum(header)) return undefined
  if (Number(header.readBigUInt64LE(24)) !== sector) return undefined
  const entriesOffset = Number(header.readBigUInt64LE(72)) * sectorBytes
  const entryBytes = header.readUInt32LE(84)
  const length = header.readUInt32LE(80) * entryBytes
  const isPossible = entryBytes >= ENTRY_BYTES && length <= ENTRIES_BYTES_MAX
  if (!isPossible || entriesOffset + length > sizeBytes) return undefined
  const entries = await disk.read(entriesOffset, length)
  if (crc32(entries) !== header.readUInt32LE(88)) return undefined
  return { header, entries, entryBytes }
}

function partitionsOf({ entries, entryBytes }: Table, disk: DiskBytes): GptPartition[] {
  return partitionsIn(entries, entryBytes, disk.sectorBytes).filter(
    ({ offsetBytes, sizeBytes }) => sizeBytes > 0 && offsetBytes + sizeBytes <= disk.sizeBytes,
  )
}

function partitionsIn(entries: Buffer, entryBytes: number, sectorBytes: number): GptPartition[] {
  const partitions: GptPartition[] = []
  for (let at = 0; at + entryBytes <= entries.length; at += entryBytes) {
    const type = decodeGuid(entries.subarray(at, at + 16))
    if (/^[0-]+$/.test(type)) continue
    const first = Number(entries.readBigUInt64LE(at + 32))
    const last = Number(entries.readBigUInt64LE(at + 40))
    partitions.push({
      number: at / entryBytes + 1,
      type,
      offsetBytes: first * sectorBytes,
      sizeBytes: (last - first + 1) * sectorBytes,
    })
  }
  return partitions
}

/** The backup first: whoever is interrupted leaves one table that is sound. */
function writesOf(disk: Omit<DiskBytes, 'read'>, template: Buffer, entries: Buffer): DiskWrite[] {
  const { sectorBytes } = disk
  const last = lastSector(disk)
  const backupEntries = last - Math.ceil(entries.length / sectorBytes)
  const copies = [
    { own: last, other: 1, entriesSector: backupEntries },
    { own: 1, other: last, entriesSector: 2 },
  ]
  return copies.flatMap(({ own, other, entriesSector }) => {
    const header = Buffer.from(template)
    header.writeBigUInt64LE(BigInt(own), 24)
    header.writeBigUInt64LE(BigInt(other), 32)
    header.writeBigUInt64LE(BigInt(entriesSector), 72)
    header.writeUInt32LE(crc32(entries), 88)
    header.writeUInt32LE(headerChecksum(header), 16)
    return [
      { offset: entriesSector * sectorBytes, bytes: entries },
      { offset: own * sectorBytes, bytes: header },
    ]
  })
}

function headerChecksum(header: Buffer): number {
  const bytes = Buffer.from(header.subarray(0, header.readUInt32LE(12)))
  bytes.writeUInt32LE(0, 16)
  return crc32(bytes)
}

/** Says to programs that know no GPT that the disk is in use. */
function protectiveMbr(disk: Omit<DiskBytes, 'read'>): Buffer {
  const sector = Buffer.alloc(disk.sectorBytes)
  // Begin and end as cylinder, head and sector: the first after this one, and none that could be said.
  sector.set([0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff], 446)
  sector.writeUInt32LE(1, 454)
  sector.writeUInt32LE(Math.min(lastSector(disk), 0xffff_ffff), 458)
  sector.writeUInt16LE(0xaa55, 510)
  return sector
}

function lastSector({ sizeBytes, sectorBytes }: Omit<DiskBytes, 'read'>): number {
  return Math.floor(sizeBytes / sectorBytes) - 1
}

function sectorsOfEntries(sectorBytes: number): number {
  return Math.ceil((ENTRIES * ENTRY_BYTES) / sectorBytes)
}

function randomGuid(): Buffer {
  const guid = randomBytes(16)
  // Version 4, in the byte order of `encodeGuid`.
  guid[7] = ((guid[7] ?? 0) & 0x0f) | 0x40
  guid[8] = ((guid[8] ?? 0) & 0x3f) | 0x80
  return guid
}

/** The first three groups are little-endian, the others are not. */
export function encodeGuid(text: string): Buffer {
  const hex = Buffer.from(text.replaceAll('-', ''), 'hex')
  hex.subarray(0, 4).reverse()
  hex.subarray(4, 6).reverse()
  hex.subarray(6, 8).reverse()
  return hex
}

export function decodeGuid(bytes: Buffer): string {
  const hex = encodeGuid(bytes.toString('hex')).toString('hex')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
