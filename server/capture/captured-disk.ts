/**
 * A machine's disk as far as it has come: a sparse file, and a log with a line for each segment that is in it
 * and on the disk, `INDEX SHA256`. The last line for a segment counts; half a line at the end is one that the
 * power was cut in.
 */
import { createHash } from 'node:crypto'
import { constants, type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { isZero } from '#server/import/spool.ts'
import {
  HASH_BYTES,
  SEGMENT_BYTES,
  segmentBytes,
  segmentCount,
} from '#shared/capture/capture-protocol.ts'
import { BootwireError } from '#shared/errors.ts'
import { KiB } from '#shared/units.ts'

const IMAGE_FILE = 'image'
const SEGMENTS_FILE = 'segments'

/** What is there already, zeros of a hole above all, is left out of what is written in pieces of this. */
const WRITE_BYTES: number = 64 * KiB

const LINE = /^(\d{1,9}) ([0-9a-f]{64})$/

export class CapturedDisk implements AsyncDisposable {
  readonly path: string
  readonly sizeBytes: number
  readonly #image: FileHandle
  readonly #log: FileHandle
  /** Hashes by segment; zeros where there is none. */
  readonly #hashes: Buffer
  #received = 0

  private constructor(
    path: string,
    sizeBytes: number,
    files: { readonly image: FileHandle; readonly log: FileHandle },
  ) {
    this.path = path
    this.sizeBytes = sizeBytes
    this.#image = files.image
    this.#log = files.log
    this.#hashes = Buffer.alloc(segmentCount(sizeBytes) * HASH_BYTES)
  }

  /** Opens what there is in the folder, or begins. */
  static async open(folder: string, sizeBytes: number): Promise<CapturedDisk> {
    const path = join(folder, IMAGE_FILE)
    const image = await open(path, constants.O_RDWR | constants.O_CREAT)
    await image.truncate(sizeBytes)
    const log = await open(join(folder, SEGMENTS_FILE), 'a+')
    const disk = new CapturedDisk(path, sizeBytes, { image, log })
    await disk.#readLog()
    return disk
  }

  /** Of its segments. */
  get receivedBytes(): number {
    return Math.min(this.#received * SEGMENT_BYTES, this.sizeBytes)
  }

  get isComplete(): boolean {
    return this.#received === segmentCount(this.sizeBytes)
  }

  /** Of all segments, in order; zeros where there is none. */
  get hashes(): Uint8Array {
    return this.#hashes
  }

  has(index: number): boolean {
    return !isZero(this.#hashOf(index))
  }

  /** Returns when it is on the disk. The bytes are what the hash says. */
  async write(index: number, bytes: Uint8Array, hash: string): Promise<void> {
    const start = index * SEGMENT_BYTES
    // A server that was killed may have written, and not noted it: what lies there counts, not the log.
    const before = Buffer.alloc(bytes.length)
    await this.#image.read(before, 0, before.length, start)
    for (let at = 0; at < bytes.length; at += WRITE_BYTES) {
      const part = bytes.subarray(at, at + WRITE_BYTES)
      const isThere = before.subarray(at, at + WRITE_BYTES).equals(part)
      if (!isThere) await this.#image.write(part, 0, part.length, start + at)
    }
    await this.#image.datasync()
    await this.#log.appendFile(`${index} ${hash}\n`)
    this.#note(index, hash)
  }

  /** Reads all of it again. @throws {BootwireError} IMAGE_TRUNCATED when it is not what came */
  async verify(onBytes: (doneBytes: number) => void, signal: AbortSignal): Promise<void> {
    const buffer = Buffer.alloc(SEGMENT_BYTES)
    for (let index = 0; index < segmentCount(this.sizeBytes); index += 1) {
      signal.throwIfAborted()
      const length = segmentBytes(this.sizeBytes, index)
      await this.#image.read(buffer, 0, length, index * SEGMENT_BYTES)
      const hash = createHash('sha256').update(buffer.subarray(0, length)).digest()
      if (!hash.equals(this.#hashOf(index))) {
        throw new BootwireError(
          'IMAGE_TRUNCATED',
          `Cannot use the captured disk: what lies at byte ${index * SEGMENT_BYTES} is not what came; the disk of this server may be failing`,
        )
      }
      onBytes(index * SEGMENT_BYTES + length)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#image.close()
    await this.#log.close()
  }

  async #readLog(): Promise<void> {
    const text = await this.#log.readFile('utf8')
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    for (const line of whole.split('\n')) {
      const [, index, hash] = LINE.exec(line) ?? []
      if (hash !== undefined && Number(index) < segmentCount(this.sizeBytes)) {
        this.#note(Number(index), hash)
      }
    }
    // What follows must begin a line of its own.
    await this.#log.truncate(Buffer.byteLength(whole))
  }

  #note(index: number, hash: string): void {
    if (!this.has(index)) this.#received += 1
    this.#hashOf(index).write(hash, 'hex')
  }

  #hashOf(index: number): Buffer {
    return this.#hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
  }
}
