/**
 * The open vDisk as a block device: the block layers, the NBD server, and the kernel's device joined
 * by the supervisor. From `attach` on a root may depend on this process.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { VersionRoot } from '#shared/manifest/version-root.ts'
import type { Hydration, Opened, Status } from '#shared/wire/messages.ts'
import { SECTOR_BYTES } from '../block/block-size.ts'
import {
  type Overlay,
  type OverlayNotice,
  openOverlay,
  type WriteServer,
} from '../block/open-overlay.ts'
import type { LocalCopy } from '../fetch/local-copy.ts'
import type { ObjectTransport } from '../fetch/object-transport.ts'
import { type Export, kernelFlags, type NbdConnection, serveDescriptor } from '../node-nbd/index.ts'
import type { SupervisorControl } from '../supervisor/supervisor-control.ts'
import type { AreaShare } from '../write-area/area-share.ts'
import type { WritePlaces } from './write-places.ts'

export interface ServedVdiskOptions {
  readonly opened: Opened
  /** Of the version that was opened, verified. */
  readonly root: VersionRoot
  /** Whether a system boots from it, or runs on it already. */
  readonly isBoot: boolean
  /** The write cache of one boot is never that of another. */
  readonly bootId: string
  readonly places: WritePlaces
  readonly writeCacheFolder: string
  /** Of the local disk, when the places have some of it. */
  readonly writeCacheShare: AreaShare | undefined
  /** The server, when the places have it. */
  readonly writeServer: WriteServer | undefined
  readonly transport: ObjectTransport
  /** What this client's own disk has of it. */
  readonly localCopy: LocalCopy
  readonly supervisor: SupervisorControl
  /** The agent's end of the NBD socket. */
  readonly nbdFd: number
  /** Where the bundled files of the workers lie. */
  readonly programFolder: string
  readonly onNotice: (notice: OverlayNotice) => void
}

export type VdiskStats = Omit<Status, 'kind' | 'rssBytes' | 'wireBytesReceived'>

/** The initramfs loads the driver for one device. */
const DEVICE_INDEX = 0
const DEVICE_NAME = `nbd${DEVICE_INDEX}`
export const DEVICE_PATH: string = `/dev/${DEVICE_NAME}`

/**
 * After this the kernel sends requests again that an agent took with it into death; until then they
 * wait. No request ever fails by it. A request that waits for a server is a line in the kernel's log each
 * time, so it is not less.
 */
const IO_TIMEOUT_MS = 2_000

/**
 * A kernel's queue has 128 requests, and the NBD server 32 MiB for those that wait: with this all of them
 * may be writes that wait for room, and reads still come through.
 */
const REQUEST_KIB_MAX = 128

export class ServedVdisk {
  readonly #options: ServedVdiskOptions
  readonly #overlay: Overlay
  readonly #connection: NbdConnection

  private constructor(options: ServedVdiskOptions, overlay: Overlay, connection: NbdConnection) {
    this.#options = options
    this.#overlay = overlay
    this.#connection = connection
  }

  /**
   * After a failure a thread may wait for a kernel that never comes: only a signal ends the process.
   * @throws {BootwireError} ATTACH_FAILED; WRITE_CACHE_UNUSABLE, CLIENT_MEMORY as `openOverlay`
   */
  static async attach(options: ServedVdiskOptions): Promise<ServedVdisk> {
    const { opened, programFolder, supervisor, nbdFd, bootId } = options
    const overlay = await openOverlay({
      root: options.root,
      isBoot: options.isBoot,
      diskCache: options.localCopy.diskCache,
      versionId: opened.versionId,
      ramTierBytes: options.places.ramTierBytes,
      writeCacheFolder: options.writeCacheFolder,
      writeCacheLimitBytes: options.places.ramBytes,
      writeCacheShare: options.writeCacheShare,
      writeCacheDurable: options.places.isKept,
      writeServer: options.writeServer,
      transport: options.transport,
      onNotice: options.onNotice,
      hotModuleUrl: pathToFileURL(join(programFolder, 'hot-overlay.cjs')).href,
    })
    const exported: Export = { ...overlay.device, name: opened.vdisk, description: '' }
    // First: threads take their time to start, and the kernel asks as soon as it is attached.
    const connection = serveDescriptor({
      fd: nbdFd,
      export: exported,
      workers: {
        transmission: join(programFolder, 'transmission-worker.cjs'),
        reply: join(programFolder, 'reply-worker.cjs'),
      },
    })
    await supervisor.attach({
      index: DEVICE_INDEX,
      sizeBytes: exported.sizeBytes,
      blockBytes: SECTOR_BYTES,
      flags: kernelFlags(exported),
      backendId: `bootwire:${opened.versionId}:${bootId}`,
    })
    writeFileSync(`/sys/block/${DEVICE_NAME}/queue/io_timeout`, String(IO_TIMEOUT_MS))
    writeFileSync(`/sys/block/${DEVICE_NAME}/queue/max_sectors_kb`, String(REQUEST_KIB_MAX))
    options.localCopy.begin(overlay.background, opened.hydration)
    return new ServedVdisk(options, overlay, connection)
  }

  /** Whether the system runs without a server: everything of the version is on the local disk. */
  get runsAlone(): boolean {
    return this.#options.localCopy.isComplete
  }

  stats(): VdiskStats {
    const { ramBytes, diskBytes, server } = this.#options.places
    return {
      ...this.#overlay.stats(),
      ...this.#options.localCopy.status(),
      writeCachePlaces: [
        ...(ramBytes > 0 ? (['ram'] as const) : []),
        ...(diskBytes > 0 ? (['disk'] as const) : []),
        ...(server === undefined ? [] : (['server'] as const)),
      ],
    }
  }

  /** Whether the next boot finds what is written. */
  get isKept(): boolean {
    const { isKept, server } = this.#options.places
    return isKept || server?.isKept === true
  }

  /** Writes of the system that wait for room. */
  get writesWaiting(): number {
    return this.#overlay.stats().writesWaiting
  }

  /** As `Overlay.goDown`. */
  goDown(): void {
    this.#overlay.goDown()
  }

  /** As `Overlay.failWaiting`. */
  failWaiting(): void {
    this.#overlay.failWaiting()
  }

  /** As `Overlay.longestWaitMs`. */
  get longestWaitMs(): number {
    return this.#overlay.longestWaitMs()
  }

  /** The system is up, or will never be: what it has read is told to the server when `isWhole`. */
  endBoot(isWhole: boolean): void {
    this.#overlay.endBoot(isWhole)
  }

  hydrate(hydration: Hydration): void {
    this.#options.localCopy.hydrate(hydration)
  }

  /** Settles when the kernel no longer asks for anything: after `detach`, or when something broke. */
  get ended(): Promise<unknown> {
    return this.#connection.closed
  }

  /** Takes the device away from the kernel; everything it wrote is in the write cache. */
  async detach(): Promise<void> {
    await this.#options.supervisor.detach(DEVICE_INDEX)
    await this.#connection.closed
    await this.#overlay.close()
    await this.#options.localCopy.close()
  }
}
