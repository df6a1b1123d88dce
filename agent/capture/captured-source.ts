/** The disk that is sent: read by segments, with zeros in the place of what is free. Nobody else may use it. */
import { basename } from 'node:path'
import { SEGMENT_BYTES, segmentBytes } from '#shared/capture/capture-protocol.ts'
import { BootwireError } from '#shared/errors.ts'
import { BlockDevices } from '../local-disk/block-devices.ts'
import { FileDiskDevice } from '../local-disk/disk-device.ts'
import { ext4FreeRanges, type FreeRange } from './ext4-free-blocks.ts'

export class CapturedSource implements AsyncDisposable {
  /** `sda`. */
  readonly name: string
  readonly sizeBytes: number
  readonly #device: FileDiskDevice
  /** In order, none touching the next. */
  readonly #free: readonly FreeRange[]

  private constructor(name: string, device: FileDiskDevice, free: readonly FreeRange[]) {
    this.name = name
    this.sizeBytes = device.sizeBytes
    this.#device = device
    this.#free = free
  }

  /** @throws {BootwireError} CAPTURE_IMPOSSIBLE */
  static async open(path: string): Promise<CapturedSource> {
    const device = await openDevice(path)
    try {
      if (device.sizeBytes === 0) throw impossible(path, 'it has 0 bytes')
      const name = basename(path)
      const free: FreeRange[] = []
      for (const { start, sizeBytes } of fileSystemPlaces(name, device.sizeBytes)) {
        free.push(...(await ext4FreeRanges(device, start, sizeBytes)))
      }
      return new CapturedSource(
        name,
        device,
        free.sort((a, b) => a.start - b.start),
      )
    } catch (error) {
      await device.close()
      throw error
    }
  }

  /** Returns the segment in memory of its own. */
  async read(index: number): Promise<Buffer> {
    const start = index * SEGMENT_BYTES
    const bytes = Buffer.alloc(segmentBytes(this.sizeBytes, index))
    const end = start + bytes.length
    let at = start
    for (const free of this.#freeIn(start, end)) {
      if (free.start > at)
        await this.#device.read(bytes.subarray(at - start, free.start - start), at)
      at = Math.max(at, free.end)
    }
    if (at < end) await this.#device.read(bytes.subarray(at - start), at)
    return bytes
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#device.close()
  }

  *#freeIn(start: number, end: number): Generator<FreeRange> {
    let low = 0
    for (let high = this.#free.length; low < high; ) {
      const middle = (low + high) >> 1
      if ((this.#free[middle]?.end ?? 0) <= start) low = middle + 1
      else high = middle
    }
    for (let index = low; index < this.#free.length; index += 1) {
      const range = this.#free[index]
      if (range === undefined || range.start >= end) return
      yield { start: Math.max(range.start, start), end: Math.min(range.end, end) }
    }
  }
}

/** The partitions of a disk; all of what has none. */
function fileSystemPlaces(
  name: string,
  sizeBytes: number,
): readonly { readonly start: number; readonly sizeBytes: number }[] {
  const partitions = new BlockDevices().partitionsOf(name)
  return partitions.length > 0 ? partitions : [{ start: 0, sizeBytes }]
}

async function openDevice(path: string): Promise<FileDiskDevice> {
  try {
    return await FileDiskDevice.open(path)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EBUSY') throw impossible(path, 'something uses it, as a file system or a cache')
    throw impossible(path, error instanceof Error ? error.message : String(error))
  }
}

function impossible(path: string, why: string): BootwireError {
  return new BootwireError('CAPTURE_IMPOSSIBLE', `Cannot capture ${path}: ${why}`)
}
