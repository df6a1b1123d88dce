/**
 * Makes a cache or a write area on a disk or partition that somebody named, and refuses when anybody could
 * miss what is there. A whole disk gets a table with partitions of ours, a partition becomes one of them.
 */
import { randomBytes } from 'node:crypto'
import { constants, readFileSync, realpathSync, type Stats, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { BootwireError, type ErrorCode } from '#shared/errors.ts'
import { formatBytes, GiB, MiB } from '#shared/units.ts'
import { CACHE_BYTES_MIN, PAGE_BYTES, SUPERBLOCK_OFFSET } from '../disk-cache/cache-layout.ts'
import { formatCache } from '../disk-cache/format-cache.ts'
import { decodeSuperblock } from '../disk-cache/superblock.ts'
import { formatIdentity } from '../identity/identity-store.ts'
import { type BlockDevice, BlockDevices, withDisk } from '../local-disk/block-devices.ts'
import { FileDiskDevice } from '../local-disk/disk-device.ts'
import { findContent } from '../local-disk/found-content.ts'
import {
  changeType,
  type DiskBytes,
  type DiskWrite,
  type NewPartition,
  newTable,
  PARTITION_TYPES,
  type PartitionUse,
  readPartitions,
} from '../local-disk/gpt.ts'
import { AREA_BYTES_MIN, DIRECTORY_BYTES, DIRECTORY_OFFSETS } from '../write-area/area-layout.ts'
import { AREA_ID_BYTES, decodeDirectory } from '../write-area/directory.ts'
import { formatArea } from '../write-area/write-area.ts'

export interface Prepared {
  readonly partitions: readonly PreparedPartition[]
  /** The kernel has to read the disk's table again. */
  readonly changedDisk?: string
}

export interface PreparedPartition {
  /** Of a whole disk's the kernel may not know it yet. */
  readonly path: string
  readonly use: PartitionUse
  readonly sizeBytes: number
}

export interface PrepareOptions {
  readonly path: string
  /** What it shall be. */
  readonly use: PartitionUse
  /** Of a whole disk that becomes a cache, so much is a write area; 0 for none. Default: see `defaultAreaBytes`. */
  readonly areaBytes?: number | undefined
  /** Whatever is there may be lost. */
  readonly force: boolean
  readonly devices?: BlockDevices
}

/** A table, and room to align partitions. */
const TABLE_BYTES: number = 4 * MiB

/** Of a whole disk: as much as a day's writes of a desktop, and the larger part for what is read. */
const AREA_SHARE = 1 / 4
const AREA_BYTES_DEFAULT_MAX: number = 32 * GiB

const BYTES_MIN: Readonly<Record<PartitionUse, number>> = {
  cache: CACHE_BYTES_MIN,
  writeArea: AREA_BYTES_MIN,
  // What partitioning tools make at least.
  identity: MiB,
}

/**
 * @throws {BootwireError} CACHE_NOT_EMPTY, CACHE_DEVICE_IN_USE, CACHE_DEVICE_UNFIT, PERMISSION_DENIED,
 * CACHE_FAILED
 */
export async function prepareDevice(options: PrepareOptions): Promise<Prepared> {
  const device = describe(options)
  try {
    return device.parent === undefined
      ? await prepareDisk(options, device)
      : await preparePartition(options, device)
  } catch (error) {
    throw asBootwireError(error, options.path)
  }
}

interface Target extends BlockDevice {
  readonly path: string
  readonly isFile: boolean
}

/** A file is treated as a disk: an image of one. */
function describe({ path, devices = new BlockDevices() }: PrepareOptions): Target {
  const stats = statOf(path)
  if (stats.isFile()) {
    return { name: '', path, isFile: true, sizeBytes: stats.size, sectorBytes: 512 }
  }
  const device = stats.isBlockDevice() ? devices.find(basename(realpathSync(path))) : undefined
  if (device === undefined)
    throw failure('CACHE_DEVICE_UNFIT', path, 'it is not a disk or partition')
  return { ...device, path, isFile: false }
}

/** @throws {BootwireError} */
function statOf(path: string): Stats {
  try {
    return statSync(path)
  } catch (error) {
    throw asBootwireError(error, path)
  }
}

async function prepareDisk(options: PrepareOptions, disk: Target): Promise<Prepared> {
  const { path, sizeBytes, sectorBytes } = disk
  const wanted = partitionsOf(options, sizeBytes)
  const neededBytes = wanted.reduce(
    (sum, { use, sizeBytes: bytes }) => sum + (bytes ?? BYTES_MIN[use]),
    TABLE_BYTES,
  )
  checkSize(path, sizeBytes, neededBytes)
  await claimed(path, async () => {
    await checkContent(disk, options.force)
  })
  const { writes, partitions } = newTable({ sizeBytes, sectorBytes }, wanted)
  const prepared: PreparedPartition[] = []
  for (const [index, partition] of partitions.entries()) {
    const use = wanted[index]?.use ?? 'cache'
    await formatPart(path, use, partition.offsetBytes, partition.sizeBytes)
    const partitionPath = disk.isFile ? path : partitionPathOf(path, partition.number)
    prepared.push({ path: partitionPath, use, sizeBytes: partition.sizeBytes })
  }
  // The table last: before, there is no partition that could be used.
  await writeTable(path, writes)
  return { partitions: prepared, ...(!disk.isFile && { changedDisk: path }) }
}

/** The write area first, so that the cache has what is left. */
function partitionsOf({ use, areaBytes }: PrepareOptions, diskBytes: number): NewPartition[] {
  if (use !== 'cache') return [{ use }]
  const area = areaBytes ?? defaultAreaBytes(diskBytes)
  return [...(area > 0 ? [{ use: 'writeArea', sizeBytes: area } as const] : []), { use: 'cache' }]
}

/** A small disk is all cache. */
function defaultAreaBytes(diskBytes: number): number {
  const bytes = Math.min(AREA_BYTES_DEFAULT_MAX, diskBytes * AREA_SHARE)
  return bytes < AREA_BYTES_MIN ? 0 : Math.floor(bytes / MiB) * MiB
}

async function preparePartition(
  { force, use, areaBytes = 0, devices = new BlockDevices() }: PrepareOptions,
  target: Target,
): Promise<Prepared> {
  const { path, sizeBytes, parent } = target
  if (areaBytes > 0) {
    throw failure('INVALID_ARGUMENT', path, 'only a whole disk has a write area beside its cache')
  }
  if (parent === undefined) throw failure('CACHE_DEVICE_UNFIT', path, 'it is on no disk')
  checkSize(path, sizeBytes, BYTES_MIN[use])
  const diskPath = join(path, '..', parent.name)
  const disk = devices.find(parent.name)
  const type = disk && (await typeOf(diskPath, disk, parent.number))
  if (disk === undefined || type === undefined) {
    throw failure('CACHE_DEVICE_UNFIT', path, `${diskPath} has no sound GPT`)
  }
  await claimed(path, async () => await checkContent(target, force))
  await formatPart(path, use)
  const partitions = [{ path, use, sizeBytes }]
  if (type === PARTITION_TYPES[use]) return { partitions }
  const writes = await withDisk(diskPath, disk, async (bytes) => {
    return await changeType(bytes, parent.number, use)
  })
  await writeTable(diskPath, writes ?? [])
  return { partitions, changedDisk: diskPath }
}

/** Default is the whole of the device. */
async function formatPart(
  path: string,
  use: PartitionUse,
  offset?: number,
  sizeBytes?: number,
): Promise<void> {
  const device = await FileDiskDevice.open(path, offset, sizeBytes)
  try {
    if (use === 'cache') await formatCache(device)
    else if (use === 'identity') await formatIdentity(device)
    else await formatArea(device, randomBytes(AREA_ID_BYTES))
  } finally {
    await device.close()
  }
}

async function typeOf(
  path: string,
  disk: BlockDevice,
  number: number,
): Promise<string | undefined> {
  const partitions = await withDisk(path, disk, readPartitions)
  return partitions?.find((each) => each.number === number)?.type
}

/** Other partitions of the disk may be in use: nobody is asked to give them up. */
async function writeTable(path: string, writes: readonly DiskWrite[]): Promise<void> {
  const file = await open(path, constants.O_RDWR)
  try {
    for (const { offset, bytes } of writes) {
      await file.write(bytes, 0, bytes.length, offset)
      // One copy of the table after the other.
      await file.sync()
    }
  } finally {
    await file.close()
  }
}

/** Runs while nobody can mount it. @throws EBUSY when somebody has */
async function claimed(path: string, use: () => Promise<void>): Promise<void> {
  const file = await open(path, constants.O_RDWR | constants.O_EXCL)
  try {
    await use()
  } finally {
    await file.close()
  }
}

async function checkContent(target: Target, force: boolean): Promise<void> {
  if (force) return
  const content = await withDisk(target.path, target, async ({ sizeBytes, read }) => {
    const superblock = decodeSuperblock(await read(SUPERBLOCK_OFFSET, PAGE_BYTES))
    // A cache may be made anew: all it has is on the server.
    if (typeof superblock !== 'string') return undefined
    const kept = await keptIn(read)
    if (kept !== undefined) return kept === 0 ? undefined : `${kept} write caches that are kept`
    return await findContent(sizeBytes, read)
  })
  if (content === undefined) return
  throw failure('CACHE_NOT_EMPTY', target.path, `it holds ${content}`)
}

/** How many write caches a write area keeps; undefined when it is none. */
async function keptIn(read: DiskBytes['read']): Promise<number | undefined> {
  let kept: number | undefined
  for (const offset of DIRECTORY_OFFSETS) {
    const directory = decodeDirectory(await read(offset, DIRECTORY_BYTES))
    if (typeof directory === 'string') continue
    kept = Math.max(kept ?? 0, directory.caches.filter((it) => it.bootId === undefined).length)
  }
  return kept
}

function checkSize(path: string, sizeBytes: number, minBytes: number): void {
  if (sizeBytes >= minBytes) return
  const why = `it has ${formatBytes(sizeBytes)}, expected at least ${formatBytes(minBytes)}`
  throw failure('CACHE_DEVICE_UNFIT', path, why)
}

/** As the kernel names partitions: with a `p` after a name that ends in a digit. */
function partitionPathOf(disk: string, number: number): string {
  return `${disk}${/\d$/.test(disk) ? 'p' : ''}${number}`
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'CACHE_DEVICE_UNFIT',
  EBUSY: 'CACHE_DEVICE_IN_USE',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
}

function asBootwireError(error: unknown, path: string): BootwireError {
  if (error instanceof BootwireError) return error
  const text = error instanceof Error ? error.message : String(error)
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const kind = CODES[code] ?? 'CACHE_FAILED'
  return failure(kind, path, kind === 'CACHE_DEVICE_IN_USE' ? usersOf(path) : text)
}

function failure(code: ErrorCode, path: string, why: string): BootwireError {
  return new BootwireError(code, `Cannot use ${path}: ${why}`)
}

/** Who uses it, as far as the kernel tells. */
function usersOf(path: string): string {
  const mount = linesOf('/proc/mounts').find((line) => line.startsWith(`${path} `))
  if (mount !== undefined) return `it is mounted on ${mount.split(' ')[1] ?? ''}`
  const isSwap = linesOf('/proc/swaps').some((line) => line.startsWith(`${path} `))
  return isSwap ? 'it is used as swap' : 'it is in use'
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n')
  } catch {
    return []
  }
}
