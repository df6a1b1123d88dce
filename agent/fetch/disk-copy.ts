/** What a client with a cache on its disk has of the open version, and what it does about the rest. */
import type { Hydration as Setting, Status } from '#shared/wire/messages.ts'
import type { DiskCache } from '../disk-cache/disk-cache.ts'
import { Hydration, type HydrationTimes } from './hydration.ts'
import type { BackgroundFetcher, LocalCopy } from './local-copy.ts'

/** As in messages.ts. */
const PROBLEM_LENGTH_MAX = 200

export interface DiskCopyOptions {
  readonly diskCache: DiskCache & { readonly isThere: boolean }
  /** Of all chunks of the version, as the server says. */
  readonly versionBytes: number
  /** The system can run without the server from now on, or no longer. */
  readonly onComplete: (isComplete: boolean) => void
  /** Only given by tests. */
  readonly times?: HydrationTimes
}

export class DiskCopy implements LocalCopy {
  readonly diskCache: DiskCopyOptions['diskCache']
  readonly #options: DiskCopyOptions
  #fetcher: BackgroundFetcher | undefined
  #setting: Setting = { mode: 'off', rateBytesPerSecond: 0 }
  #hydration: Hydration | undefined
  #wasComplete = false

  constructor(options: DiskCopyOptions) {
    this.#options = options
    this.diskCache = options.diskCache
  }

  /** Whether everything of the version is here. */
  get isComplete(): boolean {
    return this.#hydration?.isComplete ?? false
  }

  begin(fetcher: BackgroundFetcher, setting: Setting): void {
    this.#fetcher = fetcher
    this.hydrate(setting)
  }

  hydrate(setting: Setting): void {
    this.#setting = setting
    this.advance()
  }

  /** The disk was found, or the setting is another. */
  advance(): void {
    if (this.#hydration !== undefined) return this.#hydration.set(this.#setting)
    // What is off costs nothing: not even a walk over the manifest.
    if (this.#fetcher === undefined || !this.diskCache.isThere || this.#setting.mode === 'off')
      return
    const { diskCache, versionBytes, times } = this.#options
    this.#hydration = new Hydration({
      fetcher: this.#fetcher,
      cache: diskCache,
      setting: this.#setting,
      versionBytes,
      onChange: () => this.#changed(),
      ...(times && { times }),
    })
  }

  status(): Pick<Status, 'diskCache' | 'hydration'> {
    const { isThere } = this.diskCache
    const { state, problem, ...cache } = this.diskCache.stats()
    const off = { mode: 'off', localBytes: 0, versionBytes: this.#options.versionBytes } as const
    return {
      diskCache: {
        state: isThere || state === 'failed' ? state : 'none',
        ...cache,
        problem: problem.slice(0, PROBLEM_LENGTH_MAX),
      },
      hydration: this.#hydration?.status() ?? off,
    }
  }

  async close(): Promise<void> {
    await this.#hydration?.close()
    await this.diskCache.close()
  }

  #changed(): void {
    if (this.isComplete === this.#wasComplete) return
    this.#wasComplete = this.isComplete
    this.#options.onComplete(this.isComplete)
  }
}
