/**
 * An object as it lies in a segment: its whole hash, how it is encoded, and its payload. What is read
 * says itself what it is, so an index that is wrong finds nothing rather than something else.
 */
import { HASH_BYTES } from '#shared/manifest/content-hash.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'
import { UNIT_BYTES } from './cache-layout.ts'
import type { CachedObject } from './disk-cache.ts'

export const RECORD_HEADER_BYTES: number = HASH_BYTES + 8

/** Of the largest object there is. */
export const RECORD_UNITS_MAX: number = recordUnits(LEAF_BYTES_MAX)

export function recordUnits(storedBytes: number): number {
  return Math.ceil((RECORD_HEADER_BYTES + storedBytes) / UNIT_BYTES)
}

export function writeRecord(
  target: Buffer,
  at: number,
  hash: Uint8Array,
  { encoding, rawBytes, payload }: CachedObject,
): void {
  target.set(hash, at)
  target.writeUInt32BE(((encoding << 24) | payload.length) >>> 0, at + HASH_BYTES)
  target.writeUInt32BE(rawBytes, at + HASH_BYTES + 4)
  target.set(payload, at + RECORD_HEADER_BYTES)
  const end = at + RECORD_HEADER_BYTES + payload.length
  target.fill(0, end, at + recordUnits(payload.length) * UNIT_BYTES)
}

/** Returns the object as a view; undefined when the record is not one of this hash and length. */
export function readRecord(record: Buffer, hash: Uint8Array): CachedObject | undefined {
  if (record.length < RECORD_HEADER_BYTES) return undefined
  if (record.compare(hash, 0, HASH_BYTES, 0, HASH_BYTES) !== 0) return undefined
  const word = record.readUInt32BE(HASH_BYTES)
  const rawBytes = record.readUInt32BE(HASH_BYTES + 4)
  const encoding = word >>> 24
  const storedBytes = word & 0xff_ffff
  if (recordUnits(storedBytes) * UNIT_BYTES !== record.length) return undefined
  if (encoding !== CHUNK_ENCODING.raw && encoding !== CHUNK_ENCODING.zstd) return undefined
  if (rawBytes > LEAF_BYTES_MAX || storedBytes > rawBytes) return undefined
  const payload = record.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + storedBytes)
  return { encoding, rawBytes, payload }
}
