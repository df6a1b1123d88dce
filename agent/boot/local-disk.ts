/**
 * Finds cache and write area on this machine's own disks, from the start of the agent on, beside everything
 * else. Drivers are loaded by then, but disks take their time to show up: whoever waits for them waits a
 * moment, and one that comes later still joins.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { BootwireError } from '#shared/errors.ts'
import { IDENTITY_OFFSET } from '../disk-cache/cache-layout.ts'
import { LateDiskCache } from '../disk-cache/late-disk-cache.ts'
import { type OpenCacheOptions, openDiskCache } from '../disk-cache/open-disk-cache.ts'
import { type IdentityPlace, IdentityStore } from '../identity/identity-store.ts'
import { FileDiskDevice } from '../local-disk/disk-device.ts'
import type { PartitionUse } from '../local-disk/gpt.ts'
import { type OwnPartition, PartitionSearch } from '../local-disk/partition-search.ts'
import { WriteArea } from '../write-area/write-area.ts'

export interface LocalDiskTimes {
  readonly pollMs: number
  /** From the start: what is not there by then delays no boot. SATA takes 1 s to bring a link up. */
  readonly patienceMs: number
  /** Nobody puts a disk in after that; the next boot finds it. */
  readonly searchMs: number
}

const TIMES: LocalDiskTimes = { pollMs: 100, patienceMs: 1_500, searchMs: 60_000 }

export interface LocalDiskOptions extends Pick<OpenCacheOptions, 'hasServer'> {
  readonly budgetBytesPerDay?: number | undefined
  /** It cannot be used, or something with it got worse: a sentence. */
  readonly onProblem: (problem: BootwireError | string) => void
  readonly onFound: (path: string) => void
  readonly search?: PartitionSearch
  readonly times?: LocalDiskTimes
}

/** The write area of this machine, and the device it is on. */
export interface FoundArea {
  readonly area: WriteArea
  readonly path: string
}

export class LocalDisk {
  readonly cache: LateDiskCache = new LateDiskCache()
  readonly #options: LocalDiskOptions
  readonly #times: LocalDiskTimes
  readonly #settled = Promise.withResolvers<void>()
  readonly #searched = Promise.withResolvers<void>()
  readonly #identified = Promise.withResolvers<void>()
  #area: FoundArea | undefined
  #identity: IdentityStore | undefined

  private constructor(options: LocalDiskOptions) {
    this.#options = options
    this.#times = options.times ?? TIMES
  }

  /** Begins to look for it. */
  static find(options: LocalDiskOptions): LocalDisk {
    const disk = new LocalDisk(options)
    void disk.#find()
    return disk
  }

  /** Returns when what there is is open, or it is no longer worth to wait for it. */
  async settled(): Promise<void> {
    await this.#settled.promise
  }

  /** Whether anything of ours has shown up. */
  get isThere(): boolean {
    return this.cache.isThere || this.#area !== undefined || this.#identity !== undefined
  }

  /**
   * What this machine keeps of itself: on a partition of its own, else in its cache; undefined when it has
   * no place for that, or one that has not shown up in time.
   */
  async identity(): Promise<IdentityStore | undefined> {
    await Promise.race([this.#identified.promise, this.settled()])
    return this.#identity
  }

  /** The write area; undefined when there is none, or a disk with one has not shown up in time. */
  async writeArea(): Promise<FoundArea | undefined> {
    await this.settled()
    return this.#area
  }

  /** The write area of a machine that has one: waits for its disk as long as anybody looks for disks. */
  async surelyWriteArea(): Promise<FoundArea> {
    await Promise.race([this.#searched.promise, this.settled()])
    if (this.#area === undefined) await this.#searched.promise
    if (this.#area !== undefined) return this.#area
    throw new BootwireError(
      'WRITE_AREA_UNUSABLE',
      'Cannot use the write area: the disk it was on is not there',
    )
  }

  async #find(): Promise<void> {
    const { search = new PartitionSearch() } = this.#options
    const patience = setTimeout(() => this.#settled.resolve(), this.#times.patienceMs)
    const untilMs = performance.now() + this.#times.searchMs
    while (performance.now() < untilMs && !(this.cache.isThere && this.#area !== undefined)) {
      for (const partition of await search.next()) await this.#open(partition)
      if (this.cache.isThere) {
        clearTimeout(patience)
        this.#settled.resolve()
      }
      await sleep(this.#times.pollMs, undefined, { ref: false })
    }
    this.#searched.resolve()
  }

  /** The first of each that is sound. */
  async #open({ path, use }: OwnPartition): Promise<void> {
    if (this.#has(use)) return
    let device: FileDiskDevice | undefined
    try {
      device = await FileDiskDevice.open(path)
      if (use === 'identity') await this.#openIdentity({ device, offset: 0, place: 'partition' })
      else if (use === 'cache') await this.#joinCache(device, path)
      else this.#area = { area: await WriteArea.open(device), path }
    } catch (error) {
      await device?.close()
      const problem = asBootwireError(error, path)
      if (use === 'cache') this.cache.fail(problem.message)
      this.#options.onProblem(problem)
    }
  }

  #has(use: PartitionUse): boolean {
    switch (use) {
      case 'cache':
        return this.cache.isThere
      case 'writeArea':
        return this.#area !== undefined
      case 'identity':
        return this.#identity !== undefined
    }
  }

  async #openIdentity(where: IdentityPlace): Promise<void> {
    this.#identity = await IdentityStore.open(where)
    this.#identified.resolve()
  }

  async #joinCache(device: FileDiskDevice, path: string): Promise<void> {
    const { onFound, onProblem, hasServer, budgetBytesPerDay } = this.#options
    const budget = budgetBytesPerDay === undefined ? {} : { budgetBytesPerDay }
    await this.cache.join(await openDiskCache({ device, onProblem, hasServer, ...budget }))
    onFound(path)
    if (this.#identity !== undefined) return
    await this.#openIdentity({ device, offset: IDENTITY_OFFSET, place: 'cache' })
  }
}

function asBootwireError(error: unknown, path: string): BootwireError {
  const why = error instanceof Error ? error.message : String(error)
  if (error instanceof BootwireError) return new BootwireError(error.code, `${why} (${path})`)
  return new BootwireError('CACHE_FAILED', `Cannot use ${path} of the local disk: ${why}`)
}
