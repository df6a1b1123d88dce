/**
 * Makes a cache on a disk or partition that somebody named, and refuses when anybody could miss what is
 * there. A whole disk gets a table with one partition of ours, a partition becomes one of our type.
 */
import { constants, readFileSync, realpathSync, type Stats, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { BootwireError, type ErrorCode } from '#shared/errors.ts'
import { formatBytes } from '#shared/units.ts'
import { type BlockDevice, BlockDevices, withDisk } from './block-devices.ts'
import { FileCacheDevice } from './cache-device.ts'
import { CACHE_BYTES_MIN, PAGE_BYTES, SUPERBLOCK_OFFSET } from './cache-layout.ts'
import { formatCache } from './format-cache.ts'
import { findContent } from './found-content.ts'
import {
  CACHE_PARTITION_TYPE,
  changeToCacheType,
  type DiskWrite,
  newTable,
  onlyPartition,
  readPartitions,
} from './gpt.ts'
import { decodeSuperblock } from './superblock.ts'

export interface Prepared {
  /** Of the cache's partition; of a whole disk the kernel may not know it yet. */
  readonly path: string
  readonly sizeBytes: number
  /** The kernel has to read the disk's table again. */
  readonly changedDisk?: string
}

export interface PrepareOptions {
  readonly path: string
  /** Whatever is there may be lost. */
  readonly force: boolean
  readonly devices?: BlockDevices
}

/** A table, and room to align the partition. */
const DISK_BYTES_MIN: number = CACHE_BYTES_MIN + 4 * 1024 * 1024

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

async function prepareDisk({ force }: PrepareOptions, disk: Target): Promise<Prepared> {
  const { path, sizeBytes, sectorBytes } = disk
  checkSize(path, sizeBytes, DISK_BYTES_MIN)
  await claimed(path, async () => {
    await checkContent(disk, force)
  })
  const table = newTable({ sizeBytes, sectorBytes })
  const partition = onlyPartition(table, sectorBytes)
  const device = await FileCacheDevice.open(path, partition.offsetBytes, partition.sizeBytes)
  try {
    await formatCache(device)
  } finally {
    await device.close()
  }
  // The table last: before, there is no partition that could be used.
  await writeTable(path, table)
  const partitionPath = disk.isFile ? path : partitionPathOf(path, partition.number)
  const prepared = { path: partitionPath, sizeBytes: partition.sizeBytes }
  return disk.isFile ? prepared : { ...prepared, changedDisk: path }
}

async function preparePartition(
  { force, devices = new BlockDevices() }: PrepareOptions,
  target: Target,
): Promise<Prepared> {
  const { path, sizeBytes, parent } = target
  if (parent === undefined) throw failure('CACHE_DEVICE_UNFIT', path, 'it is on no disk')
  checkSize(path, sizeBytes, CACHE_BYTES_MIN)
  const diskPath = join(path, '..', parent.name)
  const disk = devices.find(parent.name)
  const isOurs = disk && (await isOfOurType(diskPath, disk, parent.number))
  if (disk === undefined || isOurs === undefined) {
    throw failure('CACHE_DEVICE_UNFIT', path, `${diskPath} has no sound GPT`)
  }
  await claimed(path, async () => await checkContent(target, force))
  const device = await FileCacheDevice.open(path)
  try {
    await formatCache(device)
  } finally {
    await device.close()
  }
  if (isOurs) return { path, sizeBytes }
  const writes = await withDisk(diskPath, disk, async (bytes) => {
    return await changeToCacheType(bytes, parent.number)
  })
  await writeTable(diskPath, writes ?? [])
  return { path, sizeBytes, changedDisk: diskPath }
}

async function isOfOurType(
  path: string,
  disk: BlockDevice,
  number: number,
): Promise<boolean | undefined> {
  const partitions = await withDisk(path, disk, readPartitions)
  const partition = partitions?.find((each) => each.number === number)
  return partition && partition.type === CACHE_PARTITION_TYPE
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
    return await findContent(sizeBytes, read)
  })
  if (content === undefined) return
  throw failure('CACHE_NOT_EMPTY', target.path, `it holds ${content}`)
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
  return new BootwireError(code, `Cannot make a cache of ${path}: ${why}`)
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
