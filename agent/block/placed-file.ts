/**
 * One run of bytes that lies in several places: at first in a file of its own, then in extents of the
 * local disk's write area. Every thread that reads or writes it has an instance of its own over the same
 * descriptors and shared memory.
 */
import { readSync, writeSync } from 'node:fs'
import { invariant } from '#shared/invariant.ts'
import { EXTENT_BYTES, extentOffset } from '../write-area/area-layout.ts'

export interface PlacedFileMemory {
  /** Of the file that holds what is below `headBytes`; -1 when there is none. */
  readonly headFd: number
  readonly headBytes: number
  /** Of the partition that holds the rest; -1 when there is none. */
  readonly areaFd: number
  /** A word per extent: its number on the partition plus one; 0 where there is none yet. */
  readonly extents: SharedArrayBuffer
}

/** `extentsMax` are as many as there may come to be. */
export function createExtents(present: readonly number[], extentsMax: number): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(Math.max(present.length, extentsMax) * 4)
  const words = new Int32Array(memory)
  for (const [at, extent] of present.entries()) words[at] = extent + 1
  return memory
}

export class PlacedFile {
  /** Of what `locate` found. */
  fd = -1
  at = 0
  length = 0
  readonly #memory: PlacedFileMemory
  readonly #extents: Int32Array<SharedArrayBuffer>

  constructor(memory: PlacedFileMemory) {
    this.#memory = memory
    this.#extents = new Int32Array(memory.extents)
  }

  /** Finds where the first of these bytes lie, and how many of them lie there behind one another. */
  locate(at: number, length: number): void {
    const { headFd, headBytes, areaFd } = this.#memory
    if (at < headBytes) {
      this.fd = headFd
      this.at = at
      this.length = Math.min(length, headBytes - at)
      return
    }
    const inArea = at - headBytes
    const within = inArea % EXTENT_BYTES
    const extent = Atomics.load(this.#extents, (inArea - within) / EXTENT_BYTES)
    invariant(extent > 0, `no extent holds byte ${at}`)
    this.fd = areaFd
    this.at = extentOffset(extent - 1) + within
    this.length = Math.min(length, EXTENT_BYTES - within)
  }

  /** @throws what read(2) says */
  read(target: Uint8Array, to: number, length: number, at: number): void {
    for (let done = 0; done < length; ) {
      this.locate(at + done, length - done)
      const read = readSync(this.fd, target, to + done, this.length, this.at)
      if (read === 0) throw new Error(`the data ends at ${at + done}`)
      done += read
    }
  }

  /** @throws what write(2) says */
  write(bytes: Uint8Array, from: number, length: number, at: number): void {
    for (let done = 0; done < length; ) {
      this.locate(at + done, length - done)
      done += writeSync(this.fd, bytes, from + done, this.length, this.at)
    }
  }

  /** One more extent, for all threads. `index` counts those there are. */
  addExtent(index: number, extent: number): void {
    Atomics.store(this.#extents, index, extent + 1)
  }
}
