/**
 * A pack being written: appended to by one import, then closed for good (*sealed*) by whoever first
 * needs it durable. Until its index has its name it is a leftover.
 */
import { invariant } from '#shared/invariant.ts'
import { type NewFile, replaceFile, type StoreDisk } from '../store-disk.ts'
import type { StoreLayout } from '../store-layout.ts'
import type { Pack } from './pack.ts'
import {
  CHUNK_HEADER_BYTES,
  encodeIndex,
  encodePackHeader,
  IndexEntries,
  PACK_HEADER_BYTES,
  type PackedChunk,
} from './pack-format.ts'

export class PackWriter {
  readonly pack: Pack
  readonly #layout: StoreLayout
  readonly #disk: StoreDisk
  readonly #file: NewFile
  readonly #entries = new IndexEntries()
  #lengthBytes = PACK_HEADER_BYTES
  /** True after a write that failed: something may lie behind the last chunk. */
  #hasTail = false
  #lastWrite: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined

  private constructor(pack: Pack, layout: StoreLayout, disk: StoreDisk, file: NewFile) {
    this.pack = pack
    this.#layout = layout
    this.#disk = disk
    this.#file = file
  }

  static async create(pack: Pack, layout: StoreLayout, disk: StoreDisk): Promise<PackWriter> {
    const file = await disk.createFile(pack.path)
    const writer = new PackWriter(pack, layout, disk, file)
    try {
      await file.write(encodePackHeader(), 0)
    } catch (error) {
      await file.close()
      await disk.removeFile(pack.path)
      throw error
    }
    return writer
  }

  /** False once it is being sealed or discarded. */
  get isOpen(): boolean {
    return this.#closing === undefined
  }

  get lengthBytes(): number {
    return this.#lengthBytes
  }

  get entries(): IndexEntries {
    return this.#entries
  }

  /**
   * Appends records as they stand in a pack, and what they are. Returns where the first one begins.
   * One caller at a time.
   */
  async append(records: Uint8Array, chunks: readonly PackedChunk[]): Promise<number> {
    invariant(this.isOpen, 'the pack is closed')
    const begin = this.#lengthBytes
    const write = this.#file.write(records, begin)
    this.#lastWrite = write.catch(() => undefined)
    try {
      await write
    } catch (error) {
      this.#hasTail = true
      throw error
    }
    for (const chunk of chunks) {
      this.#entries.add({ ...chunk, offset: this.#lengthBytes })
      this.#lengthBytes += recordBytes(chunk)
    }
    invariant(this.#lengthBytes === begin + records.length, 'records are as long as their chunks')
    return begin
  }

  /** Makes the pack durable and complete; many may ask for it. */
  seal(): Promise<void> {
    this.#closing ??= this.#seal()
    // Whoever awaits it sees the failure; until then it is not unhandled.
    this.#closing.catch(() => undefined)
    return this.#closing
  }

  /** Gives up a pack that nobody needs; its files are the caller's to remove. */
  async discard(): Promise<void> {
    if (this.#closing !== undefined) {
      await this.#closing.catch(() => undefined)
      return
    }
    this.#closing = this.#lastWrite.then(() => this.#file.close())
    await this.#closing
    this.pack.writer = undefined
  }

  async #seal(): Promise<void> {
    await this.#lastWrite
    try {
      if (this.#hasTail) await this.#file.truncate(this.#lengthBytes)
      await this.#file.sync()
    } finally {
      await this.#file.close()
    }
    const index = encodeIndex(this.#entries, this.#lengthBytes)
    // Syncs the folder, and with it the name of the pack.
    await replaceFile(this.#disk, this.#layout.index(this.pack.id), index)
    this.pack.writer = undefined
  }
}

function recordBytes({ storedBytes }: PackedChunk): number {
  return CHUNK_HEADER_BYTES + storedBytes
}
