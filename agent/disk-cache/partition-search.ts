/** Looks for cache partitions: those of our type in the tables of this machine's disks. */
import { join } from 'node:path'
import { BlockDevices, withDisk } from './block-devices.ts'
import { CACHE_PARTITION_TYPE, readPartitions } from './gpt.ts'

export interface PartitionSearchOptions {
  readonly devices?: BlockDevices
  /** Where the device files are. */
  readonly deviceFolder?: string
}

/** Looks at disks it has not seen yet: each is read once, whatever comes and goes. */
export class PartitionSearch {
  readonly #devices: BlockDevices
  readonly #deviceFolder: string
  readonly #seen = new Set<string>()

  constructor({
    devices = new BlockDevices(),
    deviceFolder = '/dev',
  }: PartitionSearchOptions = {}) {
    this.#devices = devices
    this.#deviceFolder = deviceFolder
  }

  /** Paths of the devices of cache partitions on disks that are new since the last call. */
  async next(): Promise<string[]> {
    const found: string[] = []
    for (const disk of this.#devices.disks()) {
      if (this.#seen.has(disk.name) || disk.sizeBytes === 0) continue
      this.#seen.add(disk.name)
      // A disk that cannot be read has no cache.
      const numbers = await this.#numbersOn(disk.name).catch(() => [])
      for (const number of numbers) {
        const name = this.#devices.partition(disk.name, number)
        if (name !== undefined) found.push(join(this.#deviceFolder, name))
      }
    }
    return found
  }

  async #numbersOn(name: string): Promise<number[]> {
    const disk = this.#devices.find(name)
    if (disk === undefined) return []
    const partitions = await withDisk(join(this.#deviceFolder, name), disk, readPartitions)
    return (partitions ?? [])
      .filter(({ type }) => type === CACHE_PARTITION_TYPE)
      .map(({ number }) => number)
  }
}
