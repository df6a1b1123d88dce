/**
 * Disk space for images that cannot be read where they are: those that come through a pipe, and those
 * in other formats than raw, unpacked. Each lies alone in a folder of `<state>/spool/`, sparse, for the
 * time of its import. What a killed server left is removed at the next start.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { namingFullFolder } from '#server/store/store-full.ts'
import { BootwireError } from '#shared/errors.ts'
import { formatBytes, KiB, MiB } from '#shared/units.ts'

/** Left free for everybody else on this disk. */
const ROOM_LEFT_BYTES: number = 256 * MiB

/** Zeros are left out of what is written in pieces of this. */
const HOLE_BYTES: number = 64 * KiB

/** The free space is asked for again after this much. */
const ROOM_CHECK_BYTES: number = 64 * MiB

export interface SpoolFile extends AsyncDisposable {
  readonly path: string
}

export class Spool {
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  static async open(folder: string): Promise<Spool> {
    await rm(folder, { recursive: true, force: true })
    return new Spool(folder)
  }

  /** Makes room for one image; nothing is there yet. */
  async create(): Promise<SpoolFile> {
    const folder = join(this.#folder, randomBytes(8).toString('hex'))
    await mkdir(folder, { recursive: true, mode: 0o700 })
    return {
      path: join(folder, 'image'),
      [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
    }
  }

  /** @throws {BootwireError} STORE_FULL */
  async assertRoom(neededBytes: number, name: string): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    const { bavail, bsize } = await statfs(this.#folder)
    if (neededBytes + ROOM_LEFT_BYTES <= bavail * bsize) return
    throw new BootwireError(
      'STORE_FULL',
      `Cannot use "${name}": while it is read it takes ${formatBytes(neededBytes)} in "${this.#folder}", where ${formatBytes(bavail * bsize)} are free and ${formatBytes(ROOM_LEFT_BYTES)} must stay so`,
    )
  }

  /**
   * Writes a stream into a spool file, zeros as holes; returns its length.
   * @throws {BootwireError} STORE_FULL
   */
  async write(
    spooled: SpoolFile,
    bytes: AsyncIterable<Uint8Array>,
    name: string,
    onBytes: (doneBytes: number) => void,
  ): Promise<number> {
    return await namingFullFolder(this.#folder, async () => {
      await using file = await open(spooled.path, 'wx')
      let sizeBytes = 0
      let checkedBytes = 0
      for await (const piece of bytes) {
        if (sizeBytes >= checkedBytes) {
          await this.assertRoom(ROOM_CHECK_BYTES, name)
          checkedBytes = sizeBytes + ROOM_CHECK_BYTES
        }
        for (let at = 0; at < piece.length; at += HOLE_BYTES) {
          const part = piece.subarray(at, at + HOLE_BYTES)
          if (!isZero(part)) await file.write(part, 0, part.length, sizeBytes + at)
        }
        sizeBytes += piece.length
        onBytes(sizeBytes)
      }
      await file.truncate(sizeBytes)
      return sizeBytes
    })
  }
}

const ZEROS = new Uint8Array(MiB)

/** True for a piece of an image, up to 1 MiB, with nothing but zeros. */
export function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) === 0
}
