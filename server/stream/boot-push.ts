/**
 * What of the boot set one session lets the server push: ranges of the list, in the order in which it
 * named them, without what it was sent on request. Gives out runs of messages; who sends them decides
 * when.
 */
import type { VersionReader } from '#server/store/chunk-store.ts'
import { BootwireError } from '#shared/errors.ts'
import { type BootListEntry, NO_PAYLOAD, type PushRange } from '#shared/wire/frame.ts'
import { PUSH_RANGES_MAX } from '#shared/wire/limits.ts'
import type { BootSet } from './boot-set.ts'
import { messageWithoutPayload } from './object-message.ts'
import type { Slab } from './slab-pool.ts'

/** Messages to be sent by one write. */
export interface PushPart {
  readonly bytes: Uint8Array
  /** To be called when they are sent. */
  readonly release: () => void
}

/** Where in a slab a message lies. */
export interface FoundMessage {
  readonly slab: Slab
  readonly begin: number
  readonly end: number
}

interface OpenRange {
  begin: number
  end: number
}

export class BootPush {
  readonly set: BootSet
  readonly #reader: VersionReader
  /** What is still to be sent, none of them empty; a push goes on where the last range ends. */
  readonly #ranges: OpenRange[] = []
  /** A bit per entry of the list. */
  readonly #leftOut: Uint8Array
  #isLoading = false
  #isClosed = false

  constructor(set: BootSet, reader: VersionReader) {
    this.set = set
    this.#reader = reader
    this.#leftOut = new Uint8Array(Math.ceil(set.layout.entries.length / 8))
  }

  /** @throws {BootwireError} MESSAGE_INVALID, LIMIT_EXCEEDED */
  request(ranges: readonly PushRange[]): void {
    const { length } = this.set.layout.entries
    for (const { begin, end } of ranges) {
      if (end > length) {
        throw new BootwireError(
          'MESSAGE_INVALID',
          `Cannot push entries ${begin} to ${end}: the boot list has ${length}`,
        )
      }
      this.#add(begin, end)
    }
  }

  /** An object is sent on request: it is not pushed any more. */
  leaveOut(level: number, position: number): void {
    const entry = this.set.layout.indexOf(level, position)
    if (entry >= 0)
      this.#leftOut[entry >>> 3] = (this.#leftOut[entry >>> 3] ?? 0) | (1 << (entry & 7))
  }

  /** The message with an object, where it is in memory; valid until the next piece comes there. */
  find(level: number, position: number): FoundMessage | undefined {
    const { layout } = this.set
    const entry = layout.indexOf(level, position)
    if (entry < 0 || this.set.isLost(entry)) return undefined
    const index = layout.pieceOf(entry)
    const piece = this.set.piece(index)
    if (piece === undefined) return undefined
    const { offsetBytes } = layout.piece(index)
    const begin = layout.startOf(entry) - offsetBytes
    return { slab: piece.slab, begin, end: layout.startOf(entry + 1) - offsetBytes }
  }

  /** Brings the piece with an object into memory, where one read does it; else undefined. */
  load(level: number, position: number): Promise<void> | undefined {
    const { layout, hasFile } = this.set
    const entry = hasFile ? layout.indexOf(level, position) : -1
    return entry < 0 ? undefined : this.set.load(layout.pieceOf(entry), this.#reader)
  }

  get hasWork(): boolean {
    for (let range = this.#ranges[0]; range !== undefined; range = this.#ranges[0]) {
      while (range.begin < range.end && this.#isLeftOut(range.begin)) range.begin += 1
      if (range.begin < range.end) return true
      this.#ranges.shift()
    }
    return false
  }

  /** The next messages; undefined while they are being read, `onReady` tells when they are there. */
  next(onReady: () => void): PushPart | undefined {
    if (this.#isLoading || !this.hasWork) return undefined
    const range = this.#ranges[0] as OpenRange
    const { layout } = this.set
    const index = layout.pieceOf(range.begin)
    const piece = this.set.piece(index)
    if (piece === undefined) {
      void this.#load(index, onReady)
      return undefined
    }
    if (this.set.isLost(range.begin)) return this.#unreadable(range)
    const { offsetBytes, end: pieceEnd } = layout.piece(index)
    const begin = range.begin
    range.begin = this.#runEnd(begin + 1, Math.min(range.end, pieceEnd))
    piece.slab.retain()
    return {
      bytes: piece.bytes.subarray(
        layout.startOf(begin) - offsetBytes,
        layout.startOf(range.begin) - offsetBytes,
      ),
      release: () => piece.slab.release(),
    }
  }

  close(): void {
    this.#isClosed = true
    this.#ranges.length = 0
  }

  #add(begin: number, end: number): void {
    const last = this.#ranges.at(-1)
    if (last?.end === begin) {
      last.end = end
      return
    }
    if (this.#ranges.length >= PUSH_RANGES_MAX) {
      throw new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot queue another range to push: ${PUSH_RANGES_MAX} wait already`,
      )
    }
    this.#ranges.push({ begin, end })
  }

  #isLeftOut(entry: number): boolean {
    return ((this.#leftOut[entry >>> 3] ?? 0) & (1 << (entry & 7))) !== 0
  }

  #runEnd(from: number, limit: number): number {
    let entry = from
    while (entry < limit && !this.#isLeftOut(entry) && !this.set.isLost(entry)) entry += 1
    return entry
  }

  async #load(piece: number, onReady: () => void): Promise<void> {
    this.#isLoading = true
    await this.set.load(piece, this.#reader)
    this.#isLoading = false
    if (!this.#isClosed) onReady()
  }

  #unreadable(range: OpenRange): PushPart {
    const { level, position } = this.set.layout.entries[range.begin] as BootListEntry
    range.begin += 1
    const header = { level, position, encoding: NO_PAYLOAD.unreadable, rawBytes: 0 }
    return { bytes: messageWithoutPayload(header), release: () => undefined }
  }
}
