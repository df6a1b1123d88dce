/**
 * Fills the local disk with everything of the open version that is not there: first the manifest,
 * which also says what of it is there already and must not be given up for the rest; then the chunks
 * in the order of the vDisk. It waits while somebody waits for the server, goes one by one while the
 * client is busy, and within the path's window when it is idle.
 *
 *   off                     pause --(the administrator)--> run
 *   run --(all is here)--> complete --(something got lost)--> run
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { LeafNode } from '#shared/manifest/leaf-node.ts'
import { BLOCK_BYTES, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import type { Hydration as Setting, Status } from '#shared/wire/messages.ts'
import type { DiskCache } from '../disk-cache/disk-cache.ts'
import type { BackgroundFetcher } from './local-copy.ts'
import { RateLimit } from './rate-limit.ts'
import type { ChunkPlace } from './version-tree.ts'

export interface HydrationTimes {
  /** Nobody has waited for the server for so long: the client is idle. */
  readonly idleMs: number
  /** Between looks at a client that is not, or at a disk that is behind. */
  readonly pollMs: number
  /** Before what did not come is tried again, and a budget that is spent looked at. */
  readonly retryMs: number
}

const TIMES: HydrationTimes = { idleMs: 1_000, pollMs: 50, retryMs: 60_000 }

/** Asked for at once by an idle client; how many are on their way is the path window's to say. */
const KEEPS_MAX = 128

/** Leaves read from the local disk at once. */
const LEAVES_MAX = 8

export interface HydrationOptions {
  readonly fetcher: BackgroundFetcher
  readonly cache: DiskCache
  readonly setting: Setting
  /** Of all chunks of the version, as the server says. */
  readonly versionBytes: number
  /** All is here, or no longer. */
  readonly onChange: () => void
  readonly times?: HydrationTimes
}

export class Hydration {
  readonly #options: HydrationOptions
  readonly #times: HydrationTimes
  readonly #rate = new RateLimit()
  readonly #stop = new AbortController()
  #setting: Setting
  #wake = Promise.withResolvers<void>()
  /** By leaf, blocks of its chunks that are not here. */
  readonly #missingBlocks: Uint16Array
  #dataBlocks = 0
  #localBlocks = 0
  /** The manifest was walked, so that these are right. */
  #isCounted = false
  #isComplete = false
  #lossesCounted = 0
  readonly #running: Promise<void>

  constructor(options: HydrationOptions) {
    this.#options = options
    this.#times = options.times ?? TIMES
    this.#setting = options.setting
    this.#missingBlocks = new Uint16Array(options.fetcher.leafCount)
    this.#rate.set(options.setting.rateBytesPerSecond, performance.now())
    this.#running = this.#run()
  }

  get isComplete(): boolean {
    return this.#isComplete && this.#lossesCounted === this.#options.cache.losses
  }

  set(setting: Setting): void {
    this.#setting = setting
    this.#rate.set(setting.rateBytesPerSecond, performance.now())
    this.#wake.resolve()
    this.#wake = Promise.withResolvers()
  }

  status(): Status['hydration'] {
    const { versionBytes } = this.#options
    const share = this.#dataBlocks === 0 ? 0 : this.#localBlocks / this.#dataBlocks
    const mode = this.isComplete ? 'complete' : this.#setting.mode
    const localBytes = this.isComplete ? versionBytes : Math.floor(versionBytes * share)
    // While the manifest is walked the rest is not known, and nothing is said that must be taken back.
    return { mode, localBytes: this.#isCounted ? localBytes : 0, versionBytes }
  }

  async close(): Promise<void> {
    this.#stop.abort()
    this.#wake.resolve()
    await this.#running
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        await this.#mayRun()
        if (!this.#isCounted || this.#lossesCounted !== this.#options.cache.losses) {
          await this.#count()
        }
        const isDone = await this.#fill()
        if (isDone) await this.#untilLost()
        else await this.#pause(this.#times.retryMs)
      }
    } catch (error) {
      const isEnd = error instanceof Error && error.name === 'AbortError'
      // A mistake of ours in what nobody waits for must not take the root along.
      if (!isEnd) process.stderr.write(`hydration ended: ${String(error)}\n`)
    }
  }

  // What is here ---------------------------------------------------------------------------------

  /** Walks the manifest, so that what is here of the version is known, and held. */
  async #count(): Promise<void> {
    const { fetcher, cache } = this.#options
    cache.holdFromNowOn()
    this.#isCounted = false
    this.#lossesCounted = cache.losses
    this.#dataBlocks = 0
    this.#localBlocks = 0
    for (let first = 0; first < fetcher.leafCount; first += LEAVES_MAX) {
      await this.#mayRun()
      await this.#untilQuiet()
      const end = Math.min(first + LEAVES_MAX, fetcher.leafCount)
      const positions = Array.from({ length: end - first }, (_, at) => first + at)
      await Promise.all(positions.map(async (position) => await this.#countLeaf(position)))
    }
    this.#isCounted = true
    this.#options.onChange()
  }

  async #countLeaf(position: number): Promise<void> {
    const { fetcher, cache } = this.#options
    const leaf = await fetcher.leaf(position)
    let missing = 0
    for (const { hash, blocks } of chunksOf(leaf, position)) {
      this.#dataBlocks += blocks
      if (cache.has(hash)) this.#localBlocks += blocks
      else missing += blocks
    }
    this.#missingBlocks[position] = missing
  }

  // What is not ------------------------------------------------------------------------------------

  /** Fetches what is missing. Returns whether nothing is any more. */
  async #fill(): Promise<boolean> {
    const { fetcher, cache } = this.#options
    if (this.#missingBlocks.some((blocks) => blocks > 0) && !(await this.#untilTaking()))
      return false
    let isWhole = true
    for (let position = 0; position < fetcher.leafCount; position += 1) {
      if ((this.#missingBlocks[position] ?? 0) > 0) {
        const leaf = await fetcher.leaf(position)
        if (!(await this.#fillLeaf(chunksOf(leaf, position)))) return false
        this.#countFilled(position, leaf)
      }
      if (!fetcher.keepNodes(position)) {
        // Not in memory any more either, or the disk was behind.
        await this.#untilTaking()
        await fetcher.leaf(position)
        isWhole = fetcher.keepNodes(position) && isWhole
      }
      isWhole = isWhole && this.#missingBlocks[position] === 0
    }
    this.#isComplete = isWhole && this.#lossesCounted === cache.losses
    if (this.#isComplete) this.#options.onChange()
    return this.#isComplete
  }

  /** Returns false when it is of no use to go on. Leaf by leaf, so that nothing is fetched twice. */
  async #fillLeaf(chunks: readonly ChunkPlace[]): Promise<boolean> {
    const { cache } = this.#options
    const missingOf = (some: readonly ChunkPlace[]) => some.filter(({ hash }) => !cache.has(hash))
    let missing = missingOf(eachOnce(chunks))
    for (;;) {
      if (!(await this.#fetchAll(missing))) return false
      const left = missingOf(missing)
      if (left.length === 0 || left.length === missing.length) return true
      // The disk was behind when they came, or they came wrong.
      missing = left
    }
  }

  /** Returns false when the disk takes no more. */
  async #fetchAll(chunks: readonly ChunkPlace[]): Promise<boolean> {
    const { fetcher } = this.#options
    const coming = new Set<Promise<unknown>>()
    for (const chunk of chunks) {
      await this.#mayRun()
      await this.#untilQuiet()
      if (!(await this.#untilTaking())) break
      await this.#limitRate(chunk)
      while (coming.size >= this.#keepsMax()) await Promise.race(coming)
      const keeping = fetcher.keep(chunk).finally(() => coming.delete(keeping))
      // When the vDisk is closed while this waits for something else, nobody hears of it here.
      keeping.catch(() => undefined)
      coming.add(keeping)
    }
    await Promise.all(coming)
    return this.#options.cache.taking === 'now' || (await this.#untilTaking())
  }

  #countFilled(position: number, leaf: LeafNode | undefined): void {
    const before = this.#missingBlocks[position] ?? 0
    const missing = chunksOf(leaf, position)
      .filter(({ hash }) => !this.#options.cache.has(hash))
      .reduce((sum, { blocks }) => sum + blocks, 0)
    this.#localBlocks += before - missing
    this.#missingBlocks[position] = missing
  }

  async #limitRate({ blocks }: ChunkPlace): Promise<void> {
    const { versionBytes } = this.#options
    // How well this version is compressed, on the whole.
    const share = versionBytes / Math.max(1, this.#dataBlocks * BLOCK_BYTES)
    const waitMs = this.#rate.take(blocks * BLOCK_BYTES * Math.min(1, share), performance.now())
    if (waitMs > 0) await this.#sleep(waitMs)
  }

  // When -------------------------------------------------------------------------------------------

  /** One by one while the client is busy: what is on its way may be in the way of what comes next. */
  #keepsMax(): number {
    return this.#options.fetcher.idleMs() < this.#times.idleMs ? 1 : KEEPS_MAX
  }

  async #mayRun(): Promise<void> {
    while (this.#setting.mode !== 'run') await this.#changed()
    this.#stop.signal.throwIfAborted()
  }

  async #untilQuiet(): Promise<void> {
    while (this.#options.fetcher.idleMs() === 0) await this.#sleep(this.#times.pollMs)
  }

  async #untilTaking(): Promise<boolean> {
    while (this.#options.cache.taking === 'later') await this.#sleep(this.#times.pollMs)
    return this.#options.cache.taking === 'now'
  }

  async #untilLost(): Promise<void> {
    while (this.isComplete) await this.#sleep(this.#times.retryMs)
    this.#isComplete = false
    this.#options.onChange()
  }

  /** A change of the setting ends it. */
  async #pause(ms: number): Promise<void> {
    const end = new AbortController()
    const time = sleep(ms, undefined, {
      signal: AbortSignal.any([this.#stop.signal, end.signal]),
      ref: false,
    })
    await Promise.race([time, this.#wake.promise]).finally(() => {
      end.abort()
      time.catch(() => undefined)
    })
    this.#stop.signal.throwIfAborted()
  }

  async #sleep(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal, ref: false })
  }

  async #changed(): Promise<void> {
    await this.#wake.promise
    this.#stop.signal.throwIfAborted()
  }
}

function chunksOf(leaf: LeafNode | undefined, position: number): ChunkPlace[] {
  const chunks: ChunkPlace[] = []
  for (let index = 0; index < (leaf?.extentCount ?? 0); index += 1) {
    const extent = leaf?.extent(index)
    if (extent?.hash === undefined) continue
    const { firstBlock, blocks, hash } = extent
    chunks.push({ firstBlock: position * SPAN_BLOCKS + firstBlock, blocks, hash })
  }
  return chunks
}

/** Of chunks with the same content the first: the disk has it once. */
function eachOnce(chunks: readonly ChunkPlace[]): ChunkPlace[] {
  const byHash = new Map<string, ChunkPlace>()
  for (const chunk of chunks) {
    const key = Buffer.from(chunk.hash).toString('latin1')
    if (!byHash.has(key)) byHash.set(key, chunk)
  }
  return [...byHash.values()]
}
