/**
 * A partition of the client's own disk for what the client writes: room for write caches, handed out in
 * extents. Each change of the directory is durable before anything relies on it, and each is one write
 * of one of its two copies, so that a loss of power leaves the one before or the one after it.
 */
import { BootwireError } from '#shared/errors.ts'
import { formatBytes } from '#shared/units.ts'
import type { DiskDevice } from '../local-disk/disk-device.ts'
import {
  AREA_BYTES_MIN,
  CACHES_MAX,
  DIRECTORY_BYTES,
  DIRECTORY_OFFSETS,
  EXTENT_BYTES,
  extentCount,
  extentOffset,
  extentsFor,
} from './area-layout.ts'
import { type AreaCache, type Directory, decodeDirectory, encodeDirectory } from './directory.ts'

/** Zeros written at once to a new table. */
const CLEAR_BYTES = 1024 * 1024

/** Which write cache of an area is meant. */
export interface AreaCacheKey {
  readonly vdisk: string
  readonly versionId: string
  /** Of the vDisk, in bytes. */
  readonly sizeBytes: number
  /** Of the boot that it ends with; absent when it is kept. */
  readonly bootId?: string
}

export class WriteArea {
  readonly #device: DiskDevice
  #directory: Directory
  /** Changes one after the other. */
  #last: Promise<unknown> = Promise.resolve()

  private constructor(device: DiskDevice, directory: Directory) {
    this.#device = device
    this.#directory = directory
  }

  /** @throws {BootwireError} WRITE_AREA_UNUSABLE; what reading throws */
  static async open(device: DiskDevice): Promise<WriteArea> {
    return new WriteArea(device, await readDirectory(device))
  }

  get caches(): readonly AreaCache[] {
    return this.#directory.caches
  }

  /** Bytes that lie in no cache's extents. */
  get freeBytes(): number {
    return this.#free().length * EXTENT_BYTES
  }

  /**
   * The cache of that key, made when there is none. A cache of a boot that is over is given up, as there is
   * one boot at a time, and what was kept over another version of the vDisk, as somebody has said that this
   * one is booted now. `tableBytes` is the length of a table that shall lie here, too, in zeros at first.
   * @throws {BootwireError} WRITE_AREA_FULL; what writing throws
   */
  async claim(key: AreaCacheKey, tableBytes: number): Promise<AreaCache> {
    return await this.#exclusively(async () => {
      const others = this.caches.filter((it) => !isOver(it, key))
      const present = others.find((it) => isCache(it, key))
      if (present !== undefined) {
        if (others.length < this.caches.length) await this.#write(others)
        return present
      }
      if (others.length >= CACHES_MAX) throw full(`it has ${CACHES_MAX} write caches already`)
      const free = freeExtents(this.#extents, others)
      const tableExtents = extentsFor(tableBytes)
      if (free.length <= tableExtents) throw full(`${formatBytes(this.freeBytes)} are left in it`)
      const cache = { ...key, table: free.slice(0, tableExtents), data: [] }
      for (const extent of cache.table) await this.#clear(extent)
      await this.#write([...others, cache])
      return cache
    })
  }

  /** One more extent for the data of a cache. Returns which; undefined when there is none. */
  async grow(key: AreaCacheKey): Promise<number | undefined> {
    return await this.#exclusively(async () => {
      const [extent] = this.#free()
      if (extent === undefined) return undefined
      const caches = this.caches.map((it) =>
        isCache(it, key) ? { ...it, data: [...it.data, extent] } : it,
      )
      await this.#write(caches)
      return extent
    })
  }

  /** Gives a cache up with all that is in it. */
  async drop(key: AreaCacheKey): Promise<void> {
    await this.#exclusively(() => this.#write(this.caches.filter((it) => !isCache(it, key))))
  }

  async close(): Promise<void> {
    await this.#last
    await this.#device.close()
  }

  get #extents(): number {
    return extentCount(this.#directory.sizeBytes)
  }

  #free(): number[] {
    return freeExtents(this.#extents, this.caches)
  }

  async #clear(extent: number): Promise<void> {
    const zeros = Buffer.alloc(CLEAR_BYTES)
    const begin = extentOffset(extent)
    for (let at = begin; at < begin + EXTENT_BYTES; at += CLEAR_BYTES) {
      await this.#device.write(zeros, at)
    }
  }

  async #write(caches: readonly AreaCache[]): Promise<void> {
    const directory = { ...this.#directory, caches, sequence: this.#directory.sequence + 1 }
    const offset = DIRECTORY_OFFSETS[directory.sequence % 2] ?? 0
    // What it names is there before it.
    await this.#device.sync()
    await this.#device.write(encodeDirectory(directory), offset)
    await this.#device.sync()
    this.#directory = directory
  }

  async #exclusively<T>(change: () => Promise<T>): Promise<T> {
    const changed = this.#last.then(change)
    this.#last = changed.catch(() => undefined)
    return await changed
  }
}

/** Makes an empty one: no cache of an earlier one is found again. */
export async function formatArea(device: DiskDevice, id: Buffer): Promise<void> {
  const empty = { id, sizeBytes: device.sizeBytes, caches: [] }
  for (const [sequence, offset] of DIRECTORY_OFFSETS.entries()) {
    await device.write(encodeDirectory({ ...empty, sequence }), offset)
    await device.sync()
  }
}

async function readDirectory(device: DiskDevice): Promise<Directory> {
  if (device.sizeBytes < AREA_BYTES_MIN) throw unusable(`it has only ${device.sizeBytes} bytes`)
  let newest: Directory | undefined
  let why = ''
  for (const offset of DIRECTORY_OFFSETS) {
    const bytes = Buffer.alloc(DIRECTORY_BYTES)
    await device.read(bytes, offset)
    const directory = decodeDirectory(bytes)
    if (typeof directory === 'string') why ||= directory
    else if (directory.sequence >= (newest?.sequence ?? 0)) newest = directory
  }
  if (newest === undefined) throw unusable(why)
  if (newest.sizeBytes > device.sizeBytes) {
    throw unusable(`it was formatted with ${newest.sizeBytes} bytes, has ${device.sizeBytes}`)
  }
  const extents = extentCount(newest.sizeBytes)
  const isInside = newest.caches.every((it) => [...it.table, ...it.data].every((e) => e < extents))
  if (!isInside) throw unusable('its directory names what is beyond its end')
  return newest
}

function freeExtents(count: number, caches: readonly AreaCache[]): number[] {
  const taken = new Set(caches.flatMap(({ table, data }) => [...table, ...data]))
  return Array.from({ length: count }, (_, extent) => extent).filter((it) => !taken.has(it))
}

/** Whether a cache has no use any more when that one is claimed. */
function isOver(cache: AreaCacheKey, key: AreaCacheKey): boolean {
  if (cache.bootId !== undefined) return cache.bootId !== key.bootId
  const isNext = cache.vdisk === key.vdisk && cache.versionId !== key.versionId
  return key.bootId === undefined && isNext
}

function isCache(cache: AreaCacheKey, key: AreaCacheKey): boolean {
  const isVersion = cache.vdisk === key.vdisk && cache.versionId === key.versionId
  return isVersion && cache.bootId === key.bootId
}

function unusable(why: string): BootwireError {
  return new BootwireError('WRITE_AREA_UNUSABLE', `Cannot use the write area: ${why}`)
}

function full(why: string): BootwireError {
  return new BootwireError('WRITE_AREA_FULL', `Cannot make a write cache in the write area: ${why}`)
}
