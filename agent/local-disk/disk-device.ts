/** The partition as the cache sees it: bytes, read and written at places, some of them surely there. */
import { close, constants, fstatSync, fsync, open, read, readFileSync, write } from 'node:fs'
import { promisify } from 'node:util'
import { invariant } from '#shared/invariant.ts'

export interface DiskDevice {
  readonly sizeBytes: number
  /** Fills the buffer. @throws when that cannot be */
  read(buffer: Uint8Array, position: number): Promise<void>
  write(buffer: Uint8Array, position: number): Promise<void>
  /** Returns when all that was written before survives a loss of power. */
  sync(): Promise<void>
  close(): Promise<void>
}

/** Whatever the disk's own are. */
const SYSFS_SECTOR_BYTES = 512

const openFile = promisify(open)
const closeFile = promisify(close)
const syncFile = promisify(fsync)

/** A part of a block device or file, with calls on threads: the disk may take its time. */
export class FileDiskDevice implements DiskDevice {
  readonly sizeBytes: number
  readonly #fd: number
  readonly #offset: number

  private constructor(fd: number, offset: number, sizeBytes: number) {
    this.#fd = fd
    this.#offset = offset
    this.sizeBytes = sizeBytes
  }

  /**
   * Nobody else may mount or format the partition meanwhile. Default is the whole of the file.
   * @throws what open(2) says: EBUSY when it is in use
   */
  static async open(path: string, offset = 0, sizeBytes?: number): Promise<FileDiskDevice> {
    const fd = await openFile(path, constants.O_RDWR | constants.O_EXCL)
    try {
      return new FileDiskDevice(fd, offset, sizeBytes ?? sizeOf(fd) - offset)
    } catch (error) {
      await closeFile(fd)
      throw error
    }
  }

  /** Leaves alone who uses it; writing fails. */
  static async openToRead(path: string, offset = 0, sizeBytes?: number): Promise<FileDiskDevice> {
    const fd = await openFile(path, constants.O_RDONLY)
    return new FileDiskDevice(fd, offset, sizeBytes ?? sizeOf(fd) - offset)
  }

  async read(buffer: Uint8Array, position: number): Promise<void> {
    this.#check(buffer, position)
    await whole(buffer, this.#offset + position, (...what) => read(this.#fd, ...what))
  }

  async write(buffer: Uint8Array, position: number): Promise<void> {
    this.#check(buffer, position)
    await whole(buffer, this.#offset + position, (...what) => write(this.#fd, ...what))
  }

  async sync(): Promise<void> {
    await syncFile(this.#fd)
  }

  async close(): Promise<void> {
    await closeFile(this.#fd)
  }

  #check({ length }: Uint8Array, position: number): void {
    invariant(position >= 0 && position + length <= this.sizeBytes, `bytes ${position}+${length}`)
  }
}

type Call = (
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
  done: (error: Error | null, bytes: number) => void,
) => void

async function whole(buffer: Uint8Array, position: number, call: Call): Promise<void> {
  let done = 0
  while (done < buffer.length) {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    call(buffer, done, buffer.length - done, position + done, (error, bytes) =>
      error === null ? resolve(bytes) : reject(error),
    )
    const bytes = await promise
    if (bytes === 0) throw new Error('the device ends before it should')
    done += bytes
  }
}

/** Of a block device stat(2) knows no size, but sysfs does. */
export function sizeOf(fd: number): number {
  const { rdev, size, isBlockDevice } = statOf(fd)
  if (!isBlockDevice) return size
  const sectors = readFileSync(`/sys/dev/block/${majorOf(rdev)}:${minorOf(rdev)}/size`, 'utf8')
  return Number(sectors) * SYSFS_SECTOR_BYTES
}

function statOf(fd: number): { rdev: bigint; size: number; isBlockDevice: boolean } {
  const stats = fstatSync(fd, { bigint: true })
  return { rdev: stats.rdev, size: Number(stats.size), isBlockDevice: stats.isBlockDevice() }
}

/** As makedev(3) of glibc packs them. */
function majorOf(rdev: bigint): bigint {
  return ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn)
}

function minorOf(rdev: bigint): bigint {
  return (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn)
}
