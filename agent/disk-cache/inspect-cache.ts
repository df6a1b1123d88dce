/** What there is to know of a cache from outside, changing nothing: also of one that is in use. */
import { realpathSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { BootwireError } from '#shared/errors.ts'
import { BlockDevices, withDisk } from '../local-disk/block-devices.ts'
import { FileDiskDevice } from '../local-disk/disk-device.ts'
import { PARTITION_TYPES, readPartitions } from '../local-disk/gpt.ts'
import { formatCacheId } from './cache-id.ts'
import { SEGMENT_BYTES, UNIT_BYTES } from './cache-layout.ts'
import { loadCache } from './open-disk-cache.ts'

export interface CacheFacts {
  readonly path: string
  readonly id: string
  readonly capacityBytes: number
  readonly usedBytes: number
  readonly objects: number
  /** As it was written last. */
  readonly budgetLeftBytes: number
  /** Since it was made. */
  readonly writtenBytes: number
}

interface CachePlace {
  readonly path: string
  readonly offsetBytes?: number
  readonly sizeBytes?: number
}

/** `path` is that of a partition, or of a disk (or an image of one) with one. @throws {BootwireError} */
export async function inspectCache(
  path: string,
  devices: BlockDevices = new BlockDevices(),
): Promise<CacheFacts> {
  const place = await placeOf(path, devices)
  const device = await FileDiskDevice.openToRead(place.path, place.offsetBytes, place.sizeBytes)
  try {
    const { id, layout, index, state } = await loadCache(device)
    return {
      path: place.path,
      id: formatCacheId(id),
      capacityBytes: layout.segments * SEGMENT_BYTES,
      usedBytes: index.segments.liveUnitsTotal * UNIT_BYTES,
      objects: index.size,
      budgetLeftBytes: state.budgetLeftBytes,
      writtenBytes: state.writtenBytes,
    }
  } finally {
    await device.close()
  }
}

async function placeOf(path: string, devices: BlockDevices): Promise<CachePlace> {
  const stats = statSync(path, { throwIfNoEntry: false })
  const device =
    stats?.isBlockDevice() === true ? devices.find(basename(realpathSync(path))) : undefined
  if (device?.parent !== undefined) return { path }
  const sizes = device ?? { sizeBytes: stats?.size ?? 0, sectorBytes: 512 }
  const found = (await partitionsOf(path, sizes)).find(({ type }) => type === PARTITION_TYPES.cache)
  if (found === undefined) {
    throw new BootwireError(
      'CACHE_UNUSABLE',
      `Cannot find a cache on ${path}: no partition of its type`,
    )
  }
  if (device === undefined) return { path, ...found }
  const name = devices.partition(device.name, found.number)
  // A table that the kernel has not read yet.
  return name === undefined ? { path, ...found } : { path: join(dirname(path), name) }
}

async function partitionsOf(path: string, sizes: { sizeBytes: number; sectorBytes: number }) {
  try {
    return (await withDisk(path, sizes, readPartitions)) ?? []
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new BootwireError('CACHE_DEVICE_UNFIT', `Cannot read ${path}: ${why}`)
  }
}
