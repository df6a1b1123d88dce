/** Looks for partitions of ours: those of our types in the tables of this machine's disks. */
import { join } from 'node:path'
import { BlockDevices, withDisk } from './block-devices.ts'
import { PARTITION_TYPES, type PartitionUse, readPartitions } from './gpt.ts'

/** One that is ours. */
export interface OwnPartition {
  /** Of its device. */
  readonly path: string
  readonly use: PartitionUse
}

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

  /** Those on disks that are new since the last call. */
  async next(): Promise<OwnPartition[]> {
    const found: OwnPartition[] = []
    for (const disk of this.#devices.disks()) {
      if (this.#seen.has(disk.name) || disk.sizeBytes === 0) continue
      this.#seen.add(disk.name)
      // A disk that cannot be read has none.
      const own = await this.#ownOn(disk.name).catch(() => [])
      for (const { number, use } of own) {
        const name = this.#devices.partition(disk.name, number)
        if (name !== undefined) found.push({ path: join(this.#deviceFolder, name), use })
      }
    }
    return found
  }

  async #ownOn(name: string): Promise<{ number: number; use: PartitionUse }[]> {
    const disk = this.#devices.find(name)
    if (disk === undefined) return []
    const partitions = await withDisk(join(this.#deviceFolder, name), disk, readPartitions)
    return (partitions ?? []).flatMap(({ number, type }) => {
      const use = useOf(type)
      return use === undefined ? [] : [{ number, use }]
    })
  }
}

function useOf(type: string): PartitionUse | undefined {
  const uses = Object.keys(PARTITION_TYPES) as PartitionUse[]
  return uses.find((use) => PARTITION_TYPES[use] === type)
}
