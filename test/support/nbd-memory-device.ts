/**
 * A hot device for tests: a flat array in shared memory. Blocks whose byte in `absent` is 1 are "not
 * here": reads of them, and writes, go to the cold device. Every call of `idle` and `close` counts.
 */

import type { Extent, HotDevice, ReplySink } from '#agent/node-nbd/block-device.ts'
import { NbdError } from '#agent/node-nbd/block-device.ts'

export const DEVICE_BLOCK_BYTES = 4096

export interface MemoryDeviceData {
  readonly memory: SharedArrayBuffer
  /** A byte per block of 4 KiB. */
  readonly absent: SharedArrayBuffer
  /** Two counters: idle, close. */
  readonly counts: SharedArrayBuffer
}

/** Reads of this value in `absent` fail with ENOSPC, an unlikely answer to a read. */
export const BROKEN = 2

export function createMemoryDevice(sizeBytes: number): MemoryDeviceData {
  return {
    memory: new SharedArrayBuffer(sizeBytes),
    absent: new SharedArrayBuffer(Math.ceil(sizeBytes / DEVICE_BLOCK_BYTES)),
    counts: new SharedArrayBuffer(8),
  }
}

export function openHotDevice(data: MemoryDeviceData): HotDevice {
  return new MemoryDevice(data)
}

export class MemoryDevice implements HotDevice {
  readonly #memory: Buffer
  readonly #absent: Uint8Array
  readonly #counts: Int32Array

  constructor(data: MemoryDeviceData) {
    this.#memory = Buffer.from(data.memory)
    this.#absent = new Uint8Array(data.absent)
    this.#counts = new Int32Array(data.counts)
  }

  read(offset: number, length: number, sink: ReplySink): boolean {
    const { first, end } = blocksOf(offset, length)
    const states = this.#absent.subarray(first, end)
    if (states.includes(BROKEN)) {
      sink.appendZeros(length / 2)
      throw new NbdError(28, 'broken')
    }
    if (states.includes(1)) return false
    let at = offset
    for (const { lengthBytes, zero } of this.extents(offset, length)) {
      if (zero) sink.appendZeros(lengthBytes)
      else sink.appendPart(this.#memory, at, lengthBytes)
      at += lengthBytes
    }
    return true
  }

  write(offset: number, bytes: Uint8Array): boolean {
    const { first, end } = blocksOf(offset, bytes.length)
    if (this.#absent.subarray(first, end).includes(1)) return false
    this.#memory.set(bytes, offset)
    return true
  }

  flush(): boolean {
    return true
  }

  trim(offset: number, length: number): boolean {
    return this.writeZeroes(offset, length)
  }

  writeZeroes(offset: number, length: number): boolean {
    this.#memory.fill(0, offset, offset + length)
    return true
  }

  extents(offset: number, length: number): Extent[] {
    const extents: Extent[] = []
    const isZero = (at: number) => {
      const end = Math.min(
        (Math.floor(at / DEVICE_BLOCK_BYTES) + 1) * DEVICE_BLOCK_BYTES,
        offset + length,
      )
      return { end, zero: this.#memory.subarray(at, end).every((byte) => byte === 0) }
    }
    for (let at = offset; at < offset + length; ) {
      const begin = at
      const { zero } = isZero(at)
      for (let next = isZero(at); next.zero === zero; next = isZero(at)) {
        at = next.end
        if (at >= offset + length) break
      }
      extents.push({ lengthBytes: at - begin, zero, hole: zero })
    }
    return extents
  }

  idle(): void {
    Atomics.add(this.#counts, 0, 1)
  }

  close(): void {
    Atomics.add(this.#counts, 1, 1)
  }
}

function blocksOf(offset: number, length: number): { first: number; end: number } {
  const first = Math.floor(offset / DEVICE_BLOCK_BYTES)
  return { first, end: Math.ceil((offset + length) / DEVICE_BLOCK_BYTES) }
}
