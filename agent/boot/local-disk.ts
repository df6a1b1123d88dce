/**
 * Finds the cache on this machine's own disks, from the start of the agent on, beside everything else.
 * Drivers are loaded by then, but disks take their time to show up: whoever waits for them waits a
 * moment, and one that comes later still joins.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { BootwireError } from '#shared/errors.ts'
import { FileCacheDevice } from '../disk-cache/cache-device.ts'
import { LateDiskCache } from '../disk-cache/late-disk-cache.ts'
import { type OpenCacheOptions, openDiskCache } from '../disk-cache/open-disk-cache.ts'
import { PartitionSearch } from '../disk-cache/partition-search.ts'

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

export class LocalDisk {
  readonly cache: LateDiskCache = new LateDiskCache()
  readonly #options: LocalDiskOptions
  readonly #times: LocalDiskTimes
  readonly #settled = Promise.withResolvers<void>()

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

  /** Returns when the cache is open, or it is no longer worth to wait for it. */
  async settled(): Promise<void> {
    await this.#settled.promise
  }

  async #find(): Promise<void> {
    const { search = new PartitionSearch() } = this.#options
    const patience = setTimeout(() => this.#settled.resolve(), this.#times.patienceMs)
    const untilMs = performance.now() + this.#times.searchMs
    while (performance.now() < untilMs) {
      for (const path of await search.next()) {
        if (await this.#open(path)) {
          clearTimeout(patience)
          return this.#settled.resolve()
        }
      }
      await sleep(this.#times.pollMs, undefined, { ref: false })
    }
  }

  /** The first that is sound. */
  async #open(path: string): Promise<boolean> {
    const { onFound, onProblem, hasServer, budgetBytesPerDay } = this.#options
    let device: FileCacheDevice | undefined
    try {
      device = await FileCacheDevice.open(path)
      const budget = budgetBytesPerDay === undefined ? {} : { budgetBytesPerDay }
      await this.cache.join(await openDiskCache({ device, onProblem, hasServer, ...budget }))
      onFound(path)
      return true
    } catch (error) {
      await device?.close()
      const problem = asBootwireError(error, path)
      this.cache.fail(problem.message)
      onProblem(problem)
      return false
    }
  }
}

function asBootwireError(error: unknown, path: string): BootwireError {
  const why = error instanceof Error ? error.message : String(error)
  if (error instanceof BootwireError) return new BootwireError(error.code, `${why} (${path})`)
  return new BootwireError('CACHE_FAILED', `Cannot use the local disk cache ${path}: ${why}`)
}
