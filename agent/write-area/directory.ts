/** The directory of a write area (FORMAT.md): which write caches there are, and whose each extent is. */
import { crc32 } from 'node:zlib'
import { invariant } from '#shared/invariant.ts'
import {
  CACHES_MAX,
  DIRECTORY_BYTES,
  EXTENT_BYTES,
  EXTENT_ENTRY_BYTES,
  EXTENTS_MAX,
  HEAD_BYTES,
} from './area-layout.ts'

/** One write cache. */
export interface AreaCache {
  /** Its name on the server, up to 63 characters of ASCII. */
  readonly vdisk: string
  /** Version id of the base, up to 64 characters of ASCII. */
  readonly versionId: string
  /** Of the vDisk. */
  readonly sizeBytes: number
  /** Of the boot that it ends with, 32 hex digits; absent when it is kept. */
  readonly bootId?: string
  /** Extents of its table, and of its data, in their order. */
  readonly table: readonly number[]
  readonly data: readonly number[]
}

export interface Directory {
  /** AREA_ID_BYTES random bytes. */
  readonly id: Buffer
  /** Of the partition when it was formatted. */
  readonly sizeBytes: number
  readonly sequence: number
  readonly caches: readonly AreaCache[]
}

export const AREA_ID_BYTES = 16
export const AREA_FORMAT = 1

const MAGIC = Buffer.from('bwwarea\n')
const CHECKSUM_OFFSET = 12
const CACHES_OFFSET = 64
const CACHE_BYTES = 192
const VERSION_ID_BYTES = 64
const VDISK_BYTES = 64
const VDISK_OFFSET = 104
const BOOT_ID_BYTES = 16

const KIND_DROPPED = 1
const KIND_KEPT = 2
const USE_TABLE = 1
const USE_DATA = 2

export function encodeDirectory({ id, sizeBytes, sequence, caches }: Directory): Buffer {
  invariant(caches.length <= CACHES_MAX, `${caches.length} caches`)
  const bytes = Buffer.alloc(DIRECTORY_BYTES)
  MAGIC.copy(bytes)
  bytes.writeUInt32BE(AREA_FORMAT, 8)
  id.copy(bytes, 16)
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 32)
  bytes.writeUInt32BE(sequence, 40)
  bytes.writeUInt32BE(EXTENT_BYTES, 44)
  for (const [at, cache] of caches.entries()) {
    encodeCache(bytes.subarray(CACHES_OFFSET + at * CACHE_BYTES), cache)
    for (const [index, extent] of cache.table.entries())
      encodeExtent(bytes, extent, at, USE_TABLE, index)
    for (const [index, extent] of cache.data.entries())
      encodeExtent(bytes, extent, at, USE_DATA, index)
  }
  bytes.writeUInt32BE(checksum(bytes), CHECKSUM_OFFSET)
  return bytes
}

/** Returns why it is none, as the end of a sentence. */
export function decodeDirectory(bytes: Buffer): Directory | string {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return 'it is not formatted'
  const format = bytes.readUInt32BE(8)
  if (format !== AREA_FORMAT) return `its format is ${format}, expected ${AREA_FORMAT}`
  if (bytes.readUInt32BE(CHECKSUM_OFFSET) !== checksum(bytes)) return 'its directory is damaged'
  const extents = decodeExtents(bytes)
  const caches = decodeCaches(bytes, extents)
  if (bytes.readUInt32BE(44) !== EXTENT_BYTES || extents === undefined || caches === undefined) {
    return 'its directory says what cannot be'
  }
  return {
    id: Buffer.from(bytes.subarray(16, 16 + AREA_ID_BYTES)),
    sizeBytes: Number(bytes.readBigUInt64BE(32)),
    sequence: bytes.readUInt32BE(40),
    caches,
  }
}

function encodeCache(target: Buffer, cache: AreaCache): void {
  const { vdisk, versionId, sizeBytes, bootId, ...extents } = cache
  invariant(vdisk.length < VDISK_BYTES, `a name of ${vdisk.length} bytes`)
  invariant(versionId.length <= VERSION_ID_BYTES, `version id of ${versionId.length} bytes`)
  target[0] = bootId === undefined ? KIND_KEPT : KIND_DROPPED
  target[1] = versionId.length
  target.writeUInt32BE(extents.table.length, 4)
  target.writeUInt32BE(extents.data.length, 8)
  target.writeBigUInt64BE(BigInt(sizeBytes), 16)
  target.write(bootId ?? '', 24, BOOT_ID_BYTES, 'hex')
  target.write(versionId, 40, VERSION_ID_BYTES, 'latin1')
  target[2] = vdisk.length
  target.write(vdisk, VDISK_OFFSET, VDISK_BYTES, 'latin1')
}

function encodeExtent(bytes: Buffer, extent: number, cache: number, use: number, at: number): void {
  const offset = HEAD_BYTES + extent * EXTENT_ENTRY_BYTES
  bytes[offset] = cache + 1
  bytes[offset + 1] = use
  bytes.writeUInt16BE(at, offset + 2)
}

/** Extents of each cache by their use, in their order; undefined where an entry means nothing. */
function decodeExtents(bytes: Buffer): Map<string, number> | undefined {
  const found = new Map<string, number>()
  for (let extent = 0; extent < EXTENTS_MAX; extent += 1) {
    const offset = HEAD_BYTES + extent * EXTENT_ENTRY_BYTES
    const [owner, use] = [bytes[offset] ?? 0, bytes[offset + 1] ?? 0]
    if (owner === 0) continue
    const key = keyOf(owner - 1, use, bytes.readUInt16BE(offset + 2))
    if (owner > CACHES_MAX || found.has(key)) return undefined
    found.set(key, extent)
  }
  return found
}

function decodeCaches(
  bytes: Buffer,
  extents: ReadonlyMap<string, number> | undefined,
): AreaCache[] | undefined {
  if (extents === undefined) return undefined
  const caches: AreaCache[] = []
  let extentsNamed = 0
  for (let at = 0; at < CACHES_MAX; at += 1) {
    const entry = bytes.subarray(CACHES_OFFSET + at * CACHE_BYTES)
    const kind = entry[0] ?? 0
    if (kind === 0) continue
    const [tableCount, dataCount] = [entry.readUInt32BE(4), entry.readUInt32BE(8)]
    const isPossible = kind <= KIND_KEPT && tableCount + dataCount <= EXTENTS_MAX
    const table = isPossible ? extentsOf(extents, at, USE_TABLE, tableCount) : undefined
    const data = isPossible ? extentsOf(extents, at, USE_DATA, dataCount) : undefined
    const [idBytes, vdiskBytes] = [entry[1] ?? 0, entry[2] ?? 0]
    const areNames = idBytes <= VERSION_ID_BYTES && vdiskBytes < VDISK_BYTES
    if (table === undefined || data === undefined || !areNames) return undefined
    extentsNamed += tableCount + dataCount
    caches.push({
      vdisk: entry.toString('latin1', VDISK_OFFSET, VDISK_OFFSET + vdiskBytes),
      versionId: entry.toString('latin1', 40, 40 + idBytes),
      sizeBytes: Number(entry.readBigUInt64BE(16)),
      ...(kind === KIND_DROPPED && { bootId: entry.toString('hex', 24, 24 + BOOT_ID_BYTES) }),
      table,
      data,
    })
  }
  return extentsNamed === extents.size ? caches : undefined
}

function extentsOf(
  extents: ReadonlyMap<string, number>,
  cache: number,
  use: number,
  count: number,
): number[] | undefined {
  const found: number[] = []
  for (let at = 0; at < count; at += 1) {
    const extent = extents.get(keyOf(cache, use, at))
    if (extent === undefined) return undefined
    found.push(extent)
  }
  return found
}

function keyOf(cache: number, use: number, at: number): string {
  return `${cache} ${use} ${at}`
}

function checksum(bytes: Buffer): number {
  return crc32(bytes.subarray(16, DIRECTORY_BYTES), crc32(bytes.subarray(0, CHECKSUM_OFFSET)))
}
