/**
 * What a boot of a version is expected to need, ready to be sent: shared by all sessions that have it
 * open. Pieces come from memory, else from the boot set's file, else from the store object by object;
 * the file only saves time.
 */
import type { VersionReader } from '#server/store/chunk-store.ts'
import type { BootListEntry } from '#shared/wire/frame.ts'
import type { BootSetFile } from './boot-set-file.ts'
import type { BootSetLayout, PieceRange } from './boot-set-layout.ts'
import { messageBytes, writeMessageHeader } from './object-message.ts'
import type { Piece, PieceCache, PieceShelf } from './piece-cache.ts'
import type { SlabPool } from './slab-pool.ts'

export interface BootSetOptions {
  readonly layout: BootSetLayout
  readonly slabs: SlabPool
  readonly cache: PieceCache
  /** The file does not hold what was written to it. */
  readonly onDamaged: (error: unknown) => void
}

export class BootSet {
  readonly layout: BootSetLayout
  readonly #options: BootSetOptions
  readonly #shelf: PieceShelf
  readonly #loading = new Map<number, Promise<void>>()
  /** Entries that could not be read when their piece was loaded last. */
  readonly #lost = new Set<number>()
  #file: BootSetFile | undefined
  #isClosed = false

  constructor(options: BootSetOptions) {
    this.#options = options
    this.layout = options.layout
    this.#shelf = options.cache.shelf()
  }

  get hasFile(): boolean {
    return this.#file !== undefined
  }

  /** Takes the file over: it is closed with the set, at once where nobody will read it. */
  async useFile(file: BootSetFile): Promise<void> {
    const unused = this.#isClosed ? file : this.#file
    if (!this.#isClosed) this.#file = file
    await unused?.close()
  }

  /** Returns a piece that is in memory. */
  piece(index: number): Piece | undefined {
    return this.#shelf.get(index)
  }

  /** True when the bytes of an entry in a loaded piece are not those of the object. */
  isLost(entry: number): boolean {
    return this.#lost.has(entry)
  }

  /** Brings a piece into memory. Never rejects: what cannot be read is lost. */
  load(index: number, reader: VersionReader): Promise<void> {
    const loading = this.#loading.get(index) ?? this.#load(index, reader)
    this.#loading.set(index, loading)
    return loading
  }

  /**
   * Reads a piece from the store alone, into `target`.
   * @throws when an object is not what the list says
   */
  async assemble(index: number, reader: VersionReader, target: Uint8Array): Promise<Uint8Array> {
    const range = this.layout.piece(index)
    for (let entry = range.first; entry < range.end; entry += 1) {
      await this.#readEntry(entry, range, reader, target)
    }
    return target.subarray(0, range.lengthBytes)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#shelf.clear()
    const file = this.#file
    this.#file = undefined
    await file?.close()
  }

  async #load(index: number, reader: VersionReader): Promise<void> {
    const range = this.layout.piece(index)
    const slab = this.#options.slabs.take()
    try {
      const bytes = slab.bytes.subarray(0, range.lengthBytes)
      const isRead = await this.#readFromFile(index, bytes)
      const lost = isRead ? [] : await this.#readFromStore(range, reader, bytes)
      // With the bytes they speak of, and not sooner: those that are replaced may still be sent.
      this.#shelf.put(index, { slab, bytes })
      for (let entry = range.first; entry < range.end; entry += 1) this.#lost.delete(entry)
      for (const entry of lost) this.#lost.add(entry)
    } finally {
      this.#loading.delete(index)
      slab.release()
    }
  }

  async #readFromFile(index: number, target: Uint8Array): Promise<boolean> {
    const file = this.#file
    if (file === undefined) return false
    try {
      await file.read(index, target)
    } catch (error) {
      if (this.#file === file) {
        this.#file = undefined
        this.#options.onDamaged(error)
        await file.close()
      }
      return false
    }
    return true
  }

  /** Returns the entries that cannot be read. */
  async #readFromStore(
    range: PieceRange,
    reader: VersionReader,
    target: Uint8Array,
  ): Promise<number[]> {
    const lost: number[] = []
    for (let entry = range.first; entry < range.end; entry += 1) {
      try {
        await this.#readEntry(entry, range, reader, target)
      } catch {
        lost.push(entry) // who asks for it by name is told why
      }
    }
    return lost
  }

  async #readEntry(
    entry: number,
    range: PieceRange,
    reader: VersionReader,
    target: Uint8Array,
  ): Promise<void> {
    const { level, position, storedBytes } = this.layout.entries[entry] as BootListEntry
    const begin = this.layout.startOf(entry) - range.offsetBytes
    const end = begin + messageBytes(storedBytes)
    const payloadAt = end - storedBytes
    const stored = await reader.readObject({ level, position }, target.subarray(payloadAt, end))
    if (stored?.position !== position || stored.storedBytes !== storedBytes) {
      throw new Error(`object ${level}/${position} is not what the boot list says`)
    }
    const { encoding, rawBytes } = stored
    writeMessageHeader(target, payloadAt, { level, position, encoding, rawBytes, storedBytes })
  }
}
