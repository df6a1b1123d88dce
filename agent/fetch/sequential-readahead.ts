/**
 * Notices that somebody reads on and on, and says which blocks come next. Only misses are seen here:
 * who reads on within what was fetched ahead is met again at its end.
 */
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

/** Fetched ahead when a read goes on where another ended: 128 KiB, what the kernel asks for at once. */
export const AHEAD_BLOCKS_AT_FIRST = 32
/** The most that is fetched ahead, 1 MiB: doubles with each read that goes on. */
export const AHEAD_BLOCKS_MAX = 256
/** What is fetched ahead ends where a chunk does: a miss behind it is no farther away than this. */
const CHUNK_BLOCKS_MAX = CHUNK_BYTES_MAX / BLOCK_BYTES
/** Reads followed at a time: a booting system reads several files at once. */
const STREAMS_MAX = 8

export interface BlockRange {
  readonly first: number
  /** After the last. */
  readonly end: number
}

interface Stream {
  readBegin: number
  readEnd: number
  /** After the last block that was fetched for it, ahead or not. */
  aheadEnd: number
  ahead: number
}

export class SequentialReadahead {
  readonly #blocks: number
  /** The one used last is the last. */
  readonly #streams: Stream[] = []

  /** `blocks` of the vDisk. */
  constructor(blocks: number) {
    this.#blocks = blocks
  }

  /** Notes a read of whole chunks; returns the blocks to fetch ahead, often none. */
  next({ first, end }: BlockRange): BlockRange {
    const at = this.#streams.findIndex(
      (it) => first >= it.readBegin && first < it.aheadEnd + CHUNK_BLOCKS_MAX,
    )
    const stream = at < 0 ? undefined : this.#streams.splice(at, 1)[0]
    if (stream === undefined) {
      const fresh = { readBegin: first, readEnd: end, aheadEnd: end, ahead: 0 }
      this.#streams.push(fresh)
      if (this.#streams.length > STREAMS_MAX) this.#streams.shift()
      return { first: end, end }
    }
    this.#streams.push(stream)
    // The same chunk again is no progress.
    if (end <= stream.readEnd) return { first: end, end }
    stream.readBegin = first
    stream.readEnd = end
    stream.ahead = Math.min(Math.max(2 * stream.ahead, AHEAD_BLOCKS_AT_FIRST), AHEAD_BLOCKS_MAX)
    const from = Math.max(end, stream.aheadEnd)
    stream.aheadEnd = Math.max(from, Math.min(end + stream.ahead, this.#blocks))
    return { first: from, end: stream.aheadEnd }
  }
}
