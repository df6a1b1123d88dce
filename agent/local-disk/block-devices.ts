/** The block devices of this machine, as sysfs tells of them. */
import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { DiskBytes } from './gpt.ts'

const SYSFS_SECTOR_BYTES = 512
const DEFAULT_SECTOR_BYTES = 512

/** Devices of the machine's memory or of the vDisk, which may hold an image of somebody's cache. */
const NO_DISKS = /^(?:nbd|ram|zram|loop|dm-|md|sr|fd)\d/

export interface BlockDevice {
  /** `sda`, `sda1`. */
  readonly name: string
  readonly sizeBytes: number
  readonly sectorBytes: number
  /** Of a partition: the disk it is on, and its number there. */
  readonly parent?: { readonly name: string; readonly number: number }
}

export class BlockDevices {
  readonly #sysFolder: string

  /** Only given by tests. */
  constructor(sysFolder = '/sys') {
    this.#sysFolder = sysFolder
  }

  /** Whole disks that may have a partition of ours, by name. */
  disks(): BlockDevice[] {
    const names = namesIn(join(this.#sysFolder, 'class/block')).filter(
      (name) => !NO_DISKS.test(name),
    )
    const devices = names.map((name) => this.find(name))
    return devices.filter(
      (device) => device !== undefined && device.parent === undefined,
    ) as BlockDevice[]
  }

  find(name: string): BlockDevice | undefined {
    const folder = join(this.#sysFolder, 'class/block', name)
    const sectors = readNumber(join(folder, 'size'))
    if (sectors === undefined) return undefined
    const number = readNumber(join(folder, 'partition'))
    const parentFolder = number === undefined ? folder : dirname(realpathSync(folder))
    const sectorBytes = readNumber(join(parentFolder, 'queue/logical_block_size'))
    return {
      name,
      sizeBytes: sectors * SYSFS_SECTOR_BYTES,
      sectorBytes: sectorBytes ?? DEFAULT_SECTOR_BYTES,
      ...(number !== undefined && { parent: { name: basename(parentFolder), number } }),
    }
  }

  /** Where the partitions of a disk lie; none of what is not partitioned. */
  partitionsOf(disk: string): { readonly start: number; readonly sizeBytes: number }[] {
    const folder = join(this.#sysFolder, 'class/block', disk)
    return namesIn(folder).flatMap((name) => {
      const isPartition = readNumber(join(folder, name, 'partition')) !== undefined
      const start = readNumber(join(folder, name, 'start'))
      const sectors = readNumber(join(folder, name, 'size'))
      if (!isPartition || start === undefined || sectors === undefined) return []
      return [{ start: start * SYSFS_SECTOR_BYTES, sizeBytes: sectors * SYSFS_SECTOR_BYTES }]
    })
  }

  /** Name of the device of a disk's partition. */
  partition(disk: string, number: number): string | undefined {
    const names = namesIn(join(this.#sysFolder, 'class/block', disk))
    return names.find((name) => {
      const folder = join(this.#sysFolder, 'class/block', disk, name)
      return name.startsWith(disk) && readNumber(join(folder, 'partition')) === number
    })
  }
}

/** Runs `use` with what is on a disk. @throws what open(2) and read(2) say */
export async function withDisk<T>(
  path: string,
  { sizeBytes, sectorBytes }: Pick<BlockDevice, 'sizeBytes' | 'sectorBytes'>,
  use: (disk: DiskBytes) => Promise<T>,
): Promise<T> {
  const file = await open(path, 'r')
  try {
    const read = async (offset: number, length: number) => {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset)
      return buffer.subarray(0, bytesRead)
    }
    return await use({ sizeBytes, sectorBytes, read })
  } finally {
    await file.close()
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch {
    return [] // a kernel without block devices, or a disk that was just removed
  }
}

function readNumber(path: string): number | undefined {
  try {
    return Number(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}
