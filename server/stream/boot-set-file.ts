/**
 * The boot set of a version as a file, so that a boot's objects, which lie all over the store, are read
 * in one run. Derived from the store and the boot list: it may be thrown away at any time, and a file
 * that is damaged, of another format or of another list is as good as none.
 *
 *     offset 0   magic `bwbset` and two digits of the format, `01`
 *            8   CRC-32 of all from offset 12 to the end of the piece table u32
 *           12   length of the boot list in bytes u32
 *           16   the boot list, as PROTOCOL.md has it
 *            …   per piece: CRC-32 of its bytes u32
 *            …   the pieces behind one another (boot-set-layout.ts)
 *
 * Integers big-endian.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { readFully } from '#server/store/read-fully.ts'
import { BootwireError } from '#shared/errors.ts'
import type { BootSetLayout } from './boot-set-layout.ts'

const MAGIC = Buffer.from('bwbset01')
const CRC_AT = 8
const LIST_LENGTH_AT = 12
const LIST_AT = 16

export class BootSetFile {
  readonly #file: FileHandle
  readonly #layout: BootSetLayout
  readonly #checksums: readonly number[]
  readonly #piecesAt: number

  private constructor(file: FileHandle, layout: BootSetLayout, header: Buffer) {
    this.#file = file
    this.#layout = layout
    const tableAt = LIST_AT + layout.listFrame.length
    this.#checksums = Array.from({ length: layout.pieceCount }, (_, index) =>
      header.readUInt32BE(tableAt + 4 * index),
    )
    this.#piecesAt = header.length
  }

  /** Returns undefined when there is no intact file of this boot set. */
  static async open(path: string, layout: BootSetLayout): Promise<BootSetFile | undefined> {
    let file: FileHandle
    try {
      file = await open(path)
    } catch {
      return undefined
    }
    try {
      const header = Buffer.alloc(headerBytes(layout))
      const { size } = await file.stat()
      if (size === header.length + layout.bytes) {
        await readFully(file, header, 0)
        if (isHeaderOf(header, layout)) return new BootSetFile(file, layout, header)
      }
    } catch {
      // As good as none.
    }
    await file.close()
    return undefined
  }

  /**
   * Makes the file anew; `load` gives the bytes of each piece in turn, valid until the next call.
   * There is the old file or the new one, whatever happens.
   */
  static async write(
    path: string,
    layout: BootSetLayout,
    load: (piece: number) => Promise<Uint8Array>,
  ): Promise<void> {
    const temporaryPath = `${path}.new`
    try {
      await using file = await open(temporaryPath, 'w')
      const header = Buffer.alloc(headerBytes(layout))
      header.set(MAGIC)
      header.writeUInt32BE(layout.listFrame.length, LIST_LENGTH_AT)
      header.set(layout.listFrame, LIST_AT)
      for (let piece = 0; piece < layout.pieceCount; piece += 1) {
        const bytes = await load(piece)
        const tableAt = LIST_AT + layout.listFrame.length
        header.writeUInt32BE(crc32(bytes), tableAt + 4 * piece)
        await file.write(bytes, 0, bytes.length, header.length + layout.piece(piece).offsetBytes)
      }
      header.writeUInt32BE(crc32(header.subarray(LIST_LENGTH_AT)), CRC_AT)
      await file.write(header, 0, header.length, 0)
      await rename(temporaryPath, path)
    } catch (error) {
      await rm(temporaryPath, { force: true })
      throw error
    }
  }

  /** Reads a piece into `target`, as long as the piece is. @throws when it is damaged */
  async read(piece: number, target: Uint8Array): Promise<void> {
    const { offsetBytes } = this.#layout.piece(piece)
    await readFully(this.#file, target, this.#piecesAt + offsetBytes)
    if (crc32(target) === this.#checksums[piece]) return
    throw new BootwireError(
      'CHUNK_CORRUPT',
      `Cannot use piece ${piece} of a boot set: it is damaged`,
    )
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

function headerBytes(layout: BootSetLayout): number {
  return LIST_AT + layout.listFrame.length + 4 * layout.pieceCount
}

function isHeaderOf(header: Buffer, layout: BootSetLayout): boolean {
  const list = header.subarray(LIST_AT, LIST_AT + layout.listFrame.length)
  return (
    header.subarray(0, MAGIC.length).equals(MAGIC) &&
    header.readUInt32BE(CRC_AT) === crc32(header.subarray(LIST_LENGTH_AT)) &&
    header.readUInt32BE(LIST_LENGTH_AT) === list.length &&
    list.equals(layout.listFrame)
  )
}
