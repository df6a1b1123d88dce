/** The bytes of the write cache's table, as WRITE-CACHE-FORMAT.md describes them. */

import { crc32 } from 'node:zlib'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import {
  ENTRY_AWAY,
  ENTRY_BASE,
  ENTRY_ZERO,
  entryMask,
  entrySlot,
  FULL_MASK,
  isZeroEntry,
  makeEntry,
  SLOTS_MAX,
  ZERO_MASK,
} from './write-cache-entry.ts'

export const TABLE_HEADER_BYTES = 4096
export const TABLE_ENTRY_BYTES = 8

const MAGIC = Buffer.from('bwcache\n')
const FORMAT_VERSION = 1
const VERSION_ID_BYTES_MAX = 64
const CHECKSUM_OFFSET = 28
const VERSION_ID_OFFSET = 32
const CHECKED_BYTES = VERSION_ID_OFFSET + VERSION_ID_BYTES_MAX

const FLAG_SLOT = 1
const FLAG_ZERO = 2
const FLAG_AWAY = 4

/** What a cache belongs to. */
export interface CacheIdentity {
  readonly versionId: string
  readonly sizeBytes: number
}

export function encodeTableHeader({ versionId, sizeBytes }: CacheIdentity): Buffer {
  const id = Buffer.from(versionId, 'latin1')
  invariant(id.length <= VERSION_ID_BYTES_MAX, `version id of ${id.length} bytes`)
  const header = Buffer.alloc(TABLE_HEADER_BYTES)
  MAGIC.copy(header)
  header.writeUInt32BE(FORMAT_VERSION, 8)
  header.writeUInt32BE(BLOCK_BYTES, 12)
  header.writeBigUInt64BE(BigInt(sizeBytes), 16)
  header.writeUInt32BE(id.length, 24)
  id.copy(header, VERSION_ID_OFFSET)
  header.writeUInt32BE(checksum(header), CHECKSUM_OFFSET)
  return header
}

/** @throws {BootwireError} WRITE_CACHE_UNUSABLE when the header is not that of this cache */
export function checkTableHeader(header: Buffer, expected: CacheIdentity): void {
  if (header.length < TABLE_HEADER_BYTES || !header.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw unusable('its table is not one of bootwire')
  }
  const format = header.readUInt32BE(8)
  if (format !== FORMAT_VERSION) {
    throw unusable(`its format is ${format}, expected ${FORMAT_VERSION}`)
  }
  if (header.readUInt32BE(CHECKSUM_OFFSET) !== checksum(header)) {
    throw unusable('the header of its table is damaged')
  }
  if (header.readUInt32BE(12) !== BLOCK_BYTES) {
    throw unusable(`its blocks have ${header.readUInt32BE(12)} bytes, expected ${BLOCK_BYTES}`)
  }
  const sizeBytes = Number(header.readBigUInt64BE(16))
  if (sizeBytes !== expected.sizeBytes) {
    throw unusable(`it is for a vDisk of ${sizeBytes} bytes, expected ${expected.sizeBytes}`)
  }
  const end = VERSION_ID_OFFSET + Math.min(header.readUInt32BE(24), VERSION_ID_BYTES_MAX)
  const versionId = header.toString('latin1', VERSION_ID_OFFSET, end)
  if (versionId !== expected.versionId) {
    throw unusable(`it belongs to version "${versionId}", expected "${expected.versionId}"`)
  }
}

/** Writes a word of write-cache-entry.ts as an entry of the table. */
export function encodeEntry(table: Buffer, offset: number, entry: number): void {
  const isWritten = entryMask(entry) !== ZERO_MASK
  const isHere = isWritten && entry !== ENTRY_AWAY
  table.writeUInt32BE(isHere ? entrySlot(entry) : 0, offset)
  table[offset + 4] = flagsOf(entry)
  table[offset + 5] = isWritten ? entryMask(entry) : ZERO_MASK
  table.writeUInt16BE(0, offset + 6)
}

/** @throws {BootwireError} WRITE_CACHE_UNUSABLE */
export function decodeEntry(table: Buffer, offset: number): number {
  const slot = table.readUInt32BE(offset)
  const [flags, mask] = [table[offset + 4] ?? 0, table[offset + 5] ?? 0]
  const reserved = table.readUInt16BE(offset + 6)
  if (reserved === 0) {
    if (flags === FLAG_SLOT && mask !== ZERO_MASK && slot < SLOTS_MAX) return makeEntry(slot, mask)
    if (flags === FLAG_ZERO && mask === ZERO_MASK && slot === 0) return ENTRY_ZERO
    if (flags === FLAG_AWAY && mask === FULL_MASK && slot === 0) return ENTRY_AWAY
    if (flags === 0 && mask === ZERO_MASK && slot === 0) return ENTRY_BASE
  }
  const text = table.toString('hex', offset, offset + TABLE_ENTRY_BYTES)
  throw unusable(`its table has the entry ${text}, which means nothing`)
}

function flagsOf(entry: number): number {
  if (entry === ENTRY_BASE) return 0
  if (entry === ENTRY_AWAY) return FLAG_AWAY
  return isZeroEntry(entry) ? FLAG_ZERO : FLAG_SLOT
}

export function unusable(why: string, cause?: unknown): BootwireError {
  return new BootwireError('WRITE_CACHE_UNUSABLE', `Cannot use the write cache: ${why}`, { cause })
}

function checksum(header: Buffer): number {
  const rest = header.subarray(VERSION_ID_OFFSET, CHECKED_BYTES)
  return crc32(rest, crc32(header.subarray(0, CHECKSUM_OFFSET)))
}
