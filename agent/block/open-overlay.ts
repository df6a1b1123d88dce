/**
 * Puts the client's block layers together: the write cache over the RAM tier over the local disk and
 * the server. What comes out is one export of the NBD server.
 */

import { constants } from 'node:os'
import { BootwireError } from '#shared/errors.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import type { VersionRoot } from '#shared/manifest/version-root.ts'
import { formatBytes, MiB } from '#shared/units.ts'
import { WRITE_KIND, type WriteRun } from '#shared/wire/write-frames.ts'
import type { DiskCache } from '../disk-cache/disk-cache.ts'
import type { ObjectFault } from '../fetch/fault-log.ts'
import { Fetcher, type FetcherStats, type Unfinished } from '../fetch/fetcher.ts'
import type { BackgroundFetcher } from '../fetch/local-copy.ts'
import type { ObjectTransport } from '../fetch/object-transport.ts'
import type { PathWindow } from '../fetch/path-window.ts'
import { type Export, NbdError } from '../node-nbd/block-device.ts'
import { RAM_TIER_BYTES_MIN, RamTier } from '../ram-tier/ram-tier.ts'
import { ReaderEpochs } from '../ram-tier/reader-epochs.ts'
import type { AreaShare } from '../write-area/area-share.ts'
import { BLOCKS_MAX, blockCount, SECTOR_BYTES } from './block-size.ts'
import { ColdOverlay, type Writing } from './cold-overlay.ts'
import { FillWatch } from './fill-watch.ts'
import type { HotOverlayData } from './hot-overlay.ts'
import { ServerBlocks } from './server-blocks.ts'
import { WriteBack, type WriteBackParts } from './write-back.ts'
import { WriteCache } from './write-cache.ts'
import {
  closeWriteCacheFiles,
  openWriteCacheFiles,
  type WriteCacheMemory,
} from './write-cache-files.ts'
import { WriteRoom } from './write-room.ts'
import type { WriteTransport } from './write-transport.ts'

/** Advertised to NBD clients; 32 MiB is what they assume of a server that says nothing. */
const REQUEST_BYTES_MAX = 32 * MiB

/**
 * Of the room for what is written, so much is for when the system goes down: what services write as they
 * end is some megabytes, and a machine that is full must go off all the same.
 */
const RESERVE_SHARE = 1 / 16
const RESERVE_BYTES_MAX = 32 * MiB

/** Reads are told to the prefetch this often while a boot goes on: it may go on when they are many. */
const HARVEST_INTERVAL_MS = 100

export interface OverlayOptions {
  /** Of the version, verified. A size that is not a multiple of 512 loses its last few bytes. */
  readonly root: VersionRoot
  /** The write cache belongs to this version and to no other. */
  readonly versionId: string
  /** Memory for chunks. */
  readonly ramTierBytes: number
  /** Folder of the write cache on a tmpfs; made when it is missing. Not used when `readOnly`. */
  readonly writeCacheFolder: string
  /** Most bytes that written data may take in that folder. */
  readonly writeCacheLimitBytes: number
  /** Room for more of it on the local disk. */
  readonly writeCacheShare?: AreaShare | undefined
  readonly transport: ObjectTransport
  /** A server that takes what is written; absent where it takes nothing. */
  readonly writeServer?: WriteServer | undefined
  /** What the local disk has is read from there, and what comes is kept there. */
  readonly diskCache?: DiskCache | undefined
  /** Something a person should know; called on the main thread. */
  readonly onNotice: (notice: OverlayNotice) => void
  /** Whether the folder survives a loss of power, so that flush and FUA must reach it. Default false. */
  readonly writeCacheDurable?: boolean
  /** Every write fails with EPERM, and there is no write cache. Default false. */
  readonly readOnly?: boolean
  /** Whether sequential reads ask for what follows. Default true. */
  readonly readahead?: boolean
  /**
   * Whether a system boots from it: until `endBoot` what is read is recorded, and the server's boot
   * list prefetched. Default false.
   */
  readonly isBoot?: boolean
  /** Where workers import the hot device from, when it was bundled. Default: hot-overlay.ts. */
  readonly hotModuleUrl?: string
  /** Only given by tests. */
  readonly pathWindow?: PathWindow
}

export interface WriteServer {
  readonly transport: WriteTransport
  /** What is written survives this client, by being there. */
  readonly isKept: boolean
  /** Of the room that there is here, so much may be used before the server is. */
  readonly beginShare: number
  /** What was written in earlier boots. */
  readonly writeMap: readonly WriteRun[]
}

export type OverlayNotice =
  /** The write cache reached this part of its limit; sent again after it was below. */
  | {
      readonly kind: 'write-cache-filling'
      readonly percent: 75 | 90 | 100
      readonly usedBytes: number
      readonly limitBytes: number
    }
  /** The local disk gives no more room for what is written. */
  | { readonly kind: 'write-area-failed'; readonly error: unknown }
  /** What was given to the server cannot be had, or not be given. */
  | { readonly kind: 'write-back-failed'; readonly error: unknown }
  /** Objects came that are not what the manifest says; they are asked for again. */
  | { readonly kind: 'objects-corrupt'; readonly fault: ObjectFault }

/** Counters since the overlay was opened. */
export interface OverlayStats extends FetcherStats {
  readonly ramTierBytes: number
  readonly writeCacheBytes: number
  readonly writeCacheLimitBytes: number
  /** Writes that wait for room. */
  readonly writesWaiting: number
  /** Reads of the kernel that had to wait for the server, and their bytes. */
  readonly demandReads: number
  readonly demandReadBytes: number
}

export interface Overlay {
  /** Everything of an NBD export but how it is called. */
  readonly device: Omit<Export, 'name' | 'description'>
  /** For who fills the local disk. */
  readonly background: BackgroundFetcher
  stats(): OverlayStats
  /** What is wanted or on its way and has not come. */
  unfinished(): Unfinished
  /** How long the read of the kernel that waits longest has waited; 0 when none does. */
  longestWaitMs(): number
  /** The system is up: what it has read is told to the server, unless it is not one to learn from. */
  endBoot(isWhole: boolean): void
  /** The system goes down: it may use what was kept for that. */
  goDown(): void
  /**
   * The system goes down and must come to its end: what waits for a server or for room is failed, now and
   * from now on.
   */
  failWaiting(): void
  /** Call after the NBD server is closed. Reads that still wait are rejected. */
  close(): Promise<void>
}

/**
 * Opens the layers; the write cache has everything that an earlier process acknowledged.
 * @throws {BootwireError} WRITE_CACHE_UNUSABLE when the folder holds the cache of another version or
 * is damaged; CLIENT_MEMORY when the client has too little memory for a vDisk of this size;
 * VDISK_TOO_LARGE
 */
export async function openOverlay(options: OverlayOptions): Promise<Overlay> {
  const sizeBytes = options.root.sizeBytes - (options.root.sizeBytes % SECTOR_BYTES)
  const tier = createTier(options)
  const memory = options.readOnly === true ? undefined : openWriteCache(options, sizeBytes)
  const fetcher = createFetcher(options, tier)
  const epochs = new ReaderEpochs(tier.memory.epochs)
  const readBase = (offset: number, target: Uint8Array) => cold.readBase(offset, target)
  const writing = memory && openWriting(options, memory, { epochs, sizeBytes, readBase })
  const cold: ColdOverlay = new ColdOverlay({ sizeBytes, tier, epochs, fetcher, writing })
  const fillWatch = memory && writing && watchFill(options, memory.control, writing)
  const harvest = harvestWhileBooting(options, fetcher)
  const flushesCold = options.writeServer?.isKept ?? false
  const hotData: HotOverlayData = {
    sizeBytes,
    tier: tier.memory,
    writeCache: memory,
    flushesCold,
  }
  return {
    device: {
      sizeBytes,
      readOnly: options.readOnly ?? false,
      minimumBlockBytes: SECTOR_BYTES,
      preferredBlockBytes: BLOCK_BYTES,
      maximumBlockBytes: REQUEST_BYTES_MAX,
      hot: { moduleUrl: options.hotModuleUrl ?? hotModuleUrl(), data: hotData },
      cold,
    },
    background: fetcher.background,
    stats: () => statsOf({ tier, writing, cold, fetcher }),
    unfinished: () => fetcher.unfinished,
    longestWaitMs: () => cold.longestWaitMs,
    endBoot: (isWhole) => {
      clearInterval(harvest)
      if (!isWhole) fetcher.dropTrace()
      fetcher.endBoot()
    },
    goDown: () => writing?.writeCache.openReserve(),
    failWaiting: () => {
      writing?.room.failWithoutRoom()
      cold.failReads(new NbdError(constants.errno.EIO, 'Cannot read: the system goes down'))
    },
    close: async () => {
      clearInterval(harvest)
      fetcher.close()
      fillWatch?.close()
      await writing?.writeBack?.close()
      if (memory !== undefined) closeWriteCacheFiles(memory)
    },
  }
}

function openWriteCache(options: OverlayOptions, sizeBytes: number): WriteCacheMemory {
  return openWriteCacheFiles({
    versionId: options.versionId,
    sizeBytes,
    folder: options.writeCacheFolder,
    limitBytes: options.writeCacheLimitBytes,
    share: options.writeCacheShare,
    durable: options.writeCacheDurable ?? false,
    hasServer: options.writeServer !== undefined,
    reserveBytes: reserveOf(options),
  })
}

function reserveOf({ writeCacheLimitBytes, writeCacheShare }: OverlayOptions): number {
  const possibleBytes = writeCacheLimitBytes + (writeCacheShare?.capacityBytes ?? 0)
  return Math.min(RESERVE_BYTES_MAX, possibleBytes * RESERVE_SHARE)
}

function openWriting(
  options: OverlayOptions,
  memory: WriteCacheMemory,
  parts: Pick<WriteBackParts, 'epochs' | 'sizeBytes' | 'readBase'>,
): Writing {
  const { writeCacheShare: share, writeServer, onNotice } = options
  const writeCache = new WriteCache(memory)
  const blocks = new ServerBlocks(memory)
  for (const run of writeServer?.writeMap ?? []) {
    blocks.adopt(run.firstBlock, run.blocks, run.kind === WRITE_KIND.zero)
  }
  const writeBack =
    writeServer &&
    new WriteBack({
      ...parts,
      ...writeServer,
      blocks,
      onProblem: (error) => onNotice({ kind: 'write-back-failed', error }),
    })
  const room = new WriteRoom({
    writeCache,
    share,
    onWait: () => writeBack?.press(),
    hasServerRoom: () => writeBack?.hasRoom ?? false,
    onShareFailed: (error) => onNotice({ kind: 'write-area-failed', error }),
  })
  return { writeCache, room, writeBack }
}

function createTier({ root: { sizeBytes }, ramTierBytes }: OverlayOptions): RamTier {
  if (blockCount(sizeBytes) > BLOCKS_MAX) {
    throw new BootwireError(
      'VDISK_TOO_LARGE',
      `Cannot open a vDisk of ${formatBytes(sizeBytes)}: expected at most ${formatBytes(BLOCKS_MAX * BLOCK_BYTES)}`,
    )
  }
  try {
    return new RamTier(sizeBytes, Math.max(ramTierBytes, RAM_TIER_BYTES_MIN))
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    throw new BootwireError(
      'CLIENT_MEMORY',
      `Cannot open a vDisk of ${formatBytes(sizeBytes)} with ${formatBytes(ramTierBytes)} of RAM cache: there is no memory for it`,
      { cause },
    )
  }
}

function createFetcher(options: OverlayOptions, tier: RamTier): Fetcher {
  const {
    root,
    transport,
    diskCache,
    readahead = true,
    isBoot = false,
    onNotice,
    pathWindow,
  } = options
  return new Fetcher({
    root,
    tier,
    transport,
    diskCache,
    readahead,
    isBoot,
    pathWindow,
    onFault: (fault) => onNotice({ kind: 'objects-corrupt', fault }),
  })
}

function harvestWhileBooting({ isBoot }: OverlayOptions, fetcher: Fetcher) {
  if (isBoot !== true) return undefined
  return setInterval(() => fetcher.harvest(), HARVEST_INTERVAL_MS).unref()
}

function watchFill(
  { onNotice }: OverlayOptions,
  control: SharedArrayBuffer,
  { writeCache, writeBack }: Writing,
): FillWatch {
  return new FillWatch(control, (percent) => {
    // It goes on there.
    if (writeBack?.hasRoom === true) return
    const { usedBytes, limitBytes } = writeCache
    onNotice({ kind: 'write-cache-filling', percent, usedBytes, limitBytes })
  })
}

interface Counted {
  readonly tier: RamTier
  readonly writing: Writing | undefined
  readonly cold: ColdOverlay
  readonly fetcher: Fetcher
}

function statsOf({ tier, writing, cold, fetcher }: Counted): OverlayStats {
  return {
    ramTierBytes: tier.memory.frames.byteLength,
    writeCacheBytes: writing?.writeCache.usedBytes ?? 0,
    writeCacheLimitBytes: writing?.writeCache.limitBytes ?? 0,
    writesWaiting: writing?.room.waiting ?? 0,
    demandReads: cold.demandReads,
    demandReadBytes: cold.demandReadBytes,
    ...fetcher.stats(),
  }
}

function hotModuleUrl(): string {
  return new URL('./hot-overlay.ts', import.meta.url).href
}
