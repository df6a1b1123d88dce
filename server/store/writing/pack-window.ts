/** Reads chunks of packs in a worker thread: many at a time where they follow one another. */
import { closeSync, openSync, readSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import { KiB, MiB } from '#shared/units.ts'
import { CHUNK_HEADER_BYTES, RECORD_BYTES_MAX, readChunkHeader } from '../packs/pack-format.ts'
import type { PackReading } from './span-worker-messages.ts'

/** One read where chunks follow one another… */
const RUN_BYTES: number = MiB
/** … and where they do not: room for most chunks. */
const SINGLE_BYTES: number = 32 * KiB
/** A span's chunks come from few packs; more are opened again. */
const OPEN_PACKS_MAX = 16

export class PackWindow {
  readonly #descriptors = new Map<string, number>()
  readonly #buffer = new Uint8Array(RUN_BYTES + RECORD_BYTES_MAX)
  /** What the buffer holds. */
  #path = ''
  #begin = 0
  #end = 0
  /** Where the chunk behind the last one begins. */
  #expected = -1

  /** Reads the chunk whose header begins at `offset`; views are valid until the next call. */
  read(path: string, offset: number): PackReading {
    if (!this.#holds(path, offset, CHUNK_HEADER_BYTES)) this.#fill(path, offset, SINGLE_BYTES)
    const chunk = this.#header(path, offset)
    if (chunk === undefined) return { kind: 'damaged', why: 'its header is not one' }
    const recordBytes = CHUNK_HEADER_BYTES + chunk.storedBytes
    if (!this.#holds(path, offset, recordBytes)) this.#fill(path, offset, recordBytes)
    if (!this.#holds(path, offset, recordBytes)) return { kind: 'damaged', why: 'it is cut off' }
    this.#expected = offset + recordBytes
    // The buffer may have been filled anew: the header is read where it is now.
    const again = this.#header(path, offset)
    const at = offset - this.#begin + CHUNK_HEADER_BYTES
    const stored = this.#buffer.subarray(at, at + chunk.storedBytes)
    if (again === undefined || crc32(stored) !== again.checksum) {
      return { kind: 'damaged', why: 'its checksum does not fit' }
    }
    return { kind: 'chunk', chunk: again, stored }
  }

  /** Forgets what it read: who asks next wants what lies on the disk then. */
  close(): void {
    for (const descriptor of this.#descriptors.values()) closeSync(descriptor)
    this.#descriptors.clear()
    this.#path = ''
  }

  #header(path: string, offset: number) {
    if (!this.#holds(path, offset, CHUNK_HEADER_BYTES)) return undefined
    return readChunkHeader(this.#buffer, offset - this.#begin)
  }

  #holds(path: string, offset: number, lengthBytes: number): boolean {
    return path === this.#path && offset >= this.#begin && offset + lengthBytes <= this.#end
  }

  #fill(path: string, offset: number, needBytes: number): void {
    const follows = path === this.#path && offset === this.#expected
    const wanted = Math.max(needBytes, follows ? RUN_BYTES : SINGLE_BYTES)
    this.#path = ''
    const descriptor = this.#open(path)
    let done = 0
    while (done < wanted) {
      const read = readSync(descriptor, this.#buffer, done, wanted - done, offset + done)
      if (read === 0) break
      done += read
    }
    this.#path = path
    this.#begin = offset
    this.#end = offset + done
  }

  #open(path: string): number {
    const known = this.#descriptors.get(path)
    if (known !== undefined) return known
    if (this.#descriptors.size >= OPEN_PACKS_MAX) this.close()
    const descriptor = openSync(path, 'r')
    this.#descriptors.set(path, descriptor)
    return descriptor
  }
}
