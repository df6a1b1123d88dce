/**
 * Where the root file system begins inside an image, by the partition it is on: GPT (UEFI 2.10 §5.3) or MBR with its logical partitions.
 * Import has found the partition by the system's tools; only its place is looked up here, from the
 * store.
 */
import type { FileSystemLocation } from '#shared/wire/messages.ts'
import type { ReadImage } from './ext4.ts'

const SECTOR_BYTES = 512
/** Disks with large sectors have their GPT in sectors of that size. */
const SECTOR_SIZES = [512, 4096] as const
const GPT_SIGNATURE = 'EFI PART'
const MBR_ENTRIES_AT = 446
const MBR_ENTRY_BYTES = 16
const EXTENDED_TYPES = new Set([0x05, 0x0f, 0x85])
const LOGICAL_FIRST = 5
const PARTITIONS_MAX = 128
const GPT_ENTRY_BYTES_MAX = 4096

/** Returns undefined when it is not there, or a logical volume in several pieces. */
export async function fileSystemStart(
  read: ReadImage,
  { partition, volume }: FileSystemLocation,
): Promise<number | undefined> {
  const [segment, ...others] = volume?.segments ?? []
  if (segment === undefined) return await partitionStart(read, partition)
  if (others.length > 0) return undefined
  const start = await partitionStart(read, segment.partition)
  return start === undefined ? undefined : start + segment.startSector * SECTOR_BYTES
}

/** `partition` counts from 1; 0 is the whole image. Returns undefined when it is not there. */
async function partitionStart(read: ReadImage, partition: number): Promise<number | undefined> {
  if (partition === 0) return 0
  for (const sectorBytes of SECTOR_SIZES) {
    const header = Buffer.from(await read(sectorBytes, SECTOR_BYTES))
    if (header.toString('latin1', 0, 8) !== GPT_SIGNATURE) continue
    return await gptStart(read, header, sectorBytes, partition)
  }
  return await mbrStart(read, partition)
}

async function gptStart(
  read: ReadImage,
  header: Buffer,
  sectorBytes: number,
  partition: number,
): Promise<number | undefined> {
  const entriesAt = Number(header.readBigUInt64LE(72)) * sectorBytes
  const entryBytes = header.readUInt32LE(84)
  const isPlausible = entryBytes >= 128 && entryBytes <= GPT_ENTRY_BYTES_MAX
  if (!isPlausible || partition > header.readUInt32LE(80)) return undefined
  const at = entriesAt + (partition - 1) * entryBytes
  const entry = Buffer.from(await read(at, 128))
  const start = Number(entry.readBigUInt64LE(32)) * sectorBytes
  return start > 0 ? start : undefined
}

async function mbrStart(read: ReadImage, partition: number): Promise<number | undefined> {
  const entries = mbrEntries(await read(0, SECTOR_BYTES))
  if (partition < LOGICAL_FIRST) return startOf(entries[partition - 1], 0)
  const extended = entries.find(({ type }) => EXTENDED_TYPES.has(type))
  if (extended === undefined) return undefined
  // A chain of tables, each with one partition and where the next table is.
  let table = extended.startSector
  for (let number = LOGICAL_FIRST; number <= PARTITIONS_MAX; number += 1) {
    const [logical, next] = mbrEntries(await read(table * SECTOR_BYTES, SECTOR_BYTES))
    if (number === partition) return startOf(logical, table)
    if (next === undefined || !EXTENDED_TYPES.has(next.type)) return undefined
    table = extended.startSector + next.startSector
  }
  return undefined
}

interface MbrEntry {
  readonly type: number
  readonly startSector: number
}

function mbrEntries(sector: Uint8Array): MbrEntry[] {
  const buffer = Buffer.from(sector)
  if (buffer.readUInt16LE(510) !== 0xaa55) return []
  return [0, 1, 2, 3].map((index) => {
    const at = MBR_ENTRIES_AT + index * MBR_ENTRY_BYTES
    return { type: buffer.readUInt8(at + 4), startSector: buffer.readUInt32LE(at + 8) }
  })
}

function startOf(entry: MbrEntry | undefined, tableSector: number): number | undefined {
  if (entry === undefined || entry.type === 0) return undefined
  return (tableSector + entry.startSector) * SECTOR_BYTES
}
