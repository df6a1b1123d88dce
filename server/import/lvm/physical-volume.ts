/**
 * What a partition of type LVM2_member holds at its beginning: a label in one of its first four sectors,
 * and areas with the description of the volume group (lvm2, `lib/format_text/layout.h`).
 */
import { crc32 } from 'node:zlib'
import { KiB, MiB } from '#shared/units.ts'
import { parseLvmText } from './lvm-text.ts'
import { readVolumeGroup, type VolumeGroup } from './volume-group.ts'

export interface PhysicalVolume {
  /** As LVM prints it, with dashes. */
  readonly uuid: string
  /** Absent when this one holds none, or none that is sound. */
  readonly group?: VolumeGroup
}

/** Reads bytes of the partition; fewer at its end. */
export type ReadPartition = (offsetBytes: number, lengthBytes: number) => Promise<Buffer>

const SECTOR_BYTES = 512
const LABEL_SECTORS = 4
const LABEL_ID = 'LABELONE'
const LABEL_TYPE = 'LVM2 001'

/** Behind the label's own header; the offset of the physical volume's header is in the field at 20. */
const UUID_BYTES = 32
const LOCATIONS_AT = UUID_BYTES + 8
const LOCATION_BYTES = 16

const AREA_MAGIC = ' LVM2 x[5A%r0N*>'
const AREA_HEADER_BYTES = 512
const AREA_TEXT_AT = 40
const AREA_TEXT_BYTES = 24
/** Flag of a place that is not in use. */
const IGNORED = 1

/** LVM makes areas of 1 MiB, and refuses descriptions of more than that. */
const TEXT_BYTES_MAX: number = 16 * MiB
const HEADER_BYTES: number = 4 * KiB

/** Returns undefined when there is no label. */
export async function readPhysicalVolume(read: ReadPartition): Promise<PhysicalVolume | undefined> {
  const sectors = await read(0, LABEL_SECTORS * SECTOR_BYTES + HEADER_BYTES)
  for (let at = 0; at < LABEL_SECTORS * SECTOR_BYTES; at += SECTOR_BYTES) {
    const label = sectors.subarray(at)
    if (label.toString('latin1', 0, 8) !== LABEL_ID) continue
    if (label.toString('latin1', 24, 32) !== LABEL_TYPE) continue
    return await readHeader(read, label.subarray(label.readUInt32LE(20)))
  }
  return undefined
}

async function readHeader(
  read: ReadPartition,
  header: Buffer,
): Promise<PhysicalVolume | undefined> {
  if (header.length < LOCATIONS_AT + 2 * LOCATION_BYTES) return undefined
  const uuid = withDashes(header.toString('latin1', 0, UUID_BYTES))
  const [, areas] = readLocations(header.subarray(LOCATIONS_AT))
  for (const offsetBytes of areas) {
    const group = await readArea(read, offsetBytes)
    if (group !== undefined) return { uuid, group }
  }
  return { uuid }
}

/** Two lists, each ended by zeros: where data lie, and where descriptions do. */
function readLocations(bytes: Buffer): [number[], number[]] {
  const lists: [number[], number[]] = [[], []]
  let list = 0
  for (let at = 0; at + LOCATION_BYTES <= bytes.length && list < lists.length; ) {
    const offsetBytes = Number(bytes.readBigUInt64LE(at))
    if (offsetBytes === 0) list += 1
    else lists[list]?.push(offsetBytes)
    at += LOCATION_BYTES
  }
  return lists
}

/** Returns undefined when it holds no description, or a damaged one. */
async function readArea(read: ReadPartition, areaAt: number): Promise<VolumeGroup | undefined> {
  const header = await read(areaAt, AREA_HEADER_BYTES)
  const isArea =
    header.length === AREA_HEADER_BYTES &&
    header.toString('latin1', 4, 20) === AREA_MAGIC &&
    checksum(header.subarray(4)) === header.readUInt32LE(0)
  if (!isArea) return undefined
  const areaBytes = Number(header.readBigUInt64LE(32))
  const place = header.subarray(AREA_TEXT_AT, AREA_TEXT_AT + AREA_TEXT_BYTES)
  const textAt = Number(place.readBigUInt64LE(0))
  const textBytes = Number(place.readBigUInt64LE(8))
  const isUsed = textAt !== 0 && (place.readUInt32LE(20) & IGNORED) === 0
  if (!isUsed || textBytes > Math.min(areaBytes, TEXT_BYTES_MAX)) return undefined
  // A ring: what does not fit before its end goes on behind the header.
  const firstBytes = Math.max(0, Math.min(textBytes, areaBytes - textAt))
  const first = await read(areaAt + textAt, firstBytes)
  const rest = await read(areaAt + AREA_HEADER_BYTES, textBytes - firstBytes)
  const text = Buffer.concat([first, rest])
  if (checksum(text) !== place.readUInt32LE(16)) return undefined
  try {
    return readVolumeGroup(parseLvmText(text.toString('utf8').replaceAll('\0', '')))
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/** CRC-32 without the usual inversions, from a start of LVM's own (`lib/misc/crc.c`). */
function checksum(bytes: Uint8Array): number {
  const start = 0xf597a6cf
  return ~crc32(bytes, ~start >>> 0) >>> 0
}

/** Six letters, five groups of four, six letters. */
function withDashes(uuid: string): string {
  return uuid.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, '$1-$2-$3-$4-$5-$6-$7')
}
