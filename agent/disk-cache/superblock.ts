/** The first and the last page of a cache partition: that it is one, of which format, how large. */
import { crc32 } from 'node:zlib'
import { CACHE_ID_BYTES } from './cache-id.ts'
import {
  CACHE_BYTES_MIN,
  INDEX_SLOTS,
  layoutOf,
  PAGE_BYTES,
  SEGMENT_BYTES,
  UNIT_BYTES,
} from './cache-layout.ts'

const MAGIC = Buffer.from('bwdcach\n')
export const CACHE_FORMAT = 1
const CHECKED_BYTES = 64

export interface Superblock {
  /** CACHE_ID_BYTES random bytes. */
  readonly id: Buffer
  /** Of the partition when it was formatted. */
  readonly sizeBytes: number
}

export function encodeSuperblock({ id, sizeBytes }: Superblock): Buffer {
  const page = Buffer.alloc(PAGE_BYTES)
  MAGIC.copy(page)
  page.writeUInt32BE(CACHE_FORMAT, 8)
  id.copy(page, 16)
  page.writeBigUInt64BE(BigInt(sizeBytes), 32)
  page.writeUInt32BE(SEGMENT_BYTES, 40)
  page.writeUInt32BE(UNIT_BYTES, 44)
  page.writeUInt32BE(INDEX_SLOTS, 48)
  page.writeUInt32BE(layoutOf(sizeBytes).segments, 52)
  page.writeUInt32BE(checksum(page), 12)
  return page
}

/** Returns why it is none, as the end of a sentence. */
export function decodeSuperblock(page: Buffer): Superblock | string {
  if (!page.subarray(0, MAGIC.length).equals(MAGIC)) return 'it is not formatted'
  const format = page.readUInt32BE(8)
  if (format !== CACHE_FORMAT) return `its format is ${format}, expected ${CACHE_FORMAT}`
  if (page.readUInt32BE(12) !== checksum(page)) return 'its first page is damaged'
  const sizeBytes = Number(page.readBigUInt64BE(32))
  const isOfThisFormat =
    page.readUInt32BE(40) === SEGMENT_BYTES &&
    page.readUInt32BE(44) === UNIT_BYTES &&
    page.readUInt32BE(48) === INDEX_SLOTS &&
    sizeBytes >= CACHE_BYTES_MIN &&
    page.readUInt32BE(52) === layoutOf(sizeBytes).segments
  if (!isOfThisFormat) return 'its first page says what cannot be'
  return { id: Buffer.from(page.subarray(16, 16 + CACHE_ID_BYTES)), sizeBytes }
}

function checksum(page: Buffer): number {
  return crc32(page.subarray(16, CHECKED_BYTES), crc32(page.subarray(0, 12)))
}
