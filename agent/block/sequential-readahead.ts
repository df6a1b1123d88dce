/**
 * Notices that somebody reads on and on, and says which chunks come next. Only misses are seen
 * here: who reads on within what was fetched ahead is met again at its end.
 */

/** Fetched ahead when a read goes on where another ended. */
const AHEAD_AT_FIRST = 2
/** The most that is fetched ahead: doubles with each read that goes on. 1 MiB in chunks of 64 KiB. */
export const AHEAD_MAX = 16
/** Reads followed at a time: a booting system reads several files at once. */
const STREAMS_MAX = 8

interface Stream {
  /** After the last chunk that was read. */
  readEnd: number
  /** After the last chunk that was fetched for it, ahead or not. */
  aheadEnd: number
  ahead: number
}

export class SequentialReadahead {
  readonly #chunkCount: number
  /** The one used last is the last. */
  readonly #streams: Stream[] = []

  constructor(chunkCount: number) {
    this.#chunkCount = chunkCount
  }

  /** Notes a read of the chunks from `first` to before `end`; returns the chunks to fetch ahead. */
  next(first: number, end: number): { readonly first: number; readonly end: number } {
    const at = this.#streams.findIndex((it) => first >= it.readEnd - 1 && first <= it.aheadEnd)
    const stream = at < 0 ? undefined : this.#streams.splice(at, 1)[0]
    if (stream === undefined) {
      this.#streams.push({ readEnd: end, aheadEnd: end, ahead: AHEAD_AT_FIRST / 2 })
      if (this.#streams.length > STREAMS_MAX) this.#streams.shift()
      return { first: end, end }
    }
    this.#streams.push(stream)
    // The same chunk again is no progress.
    if (end <= stream.readEnd) return { first: end, end }
    stream.readEnd = end
    stream.ahead = Math.min(2 * stream.ahead, AHEAD_MAX)
    const from = Math.max(end, stream.aheadEnd)
    stream.aheadEnd = Math.max(from, Math.min(end + stream.ahead, this.#chunkCount))
    return { first: from, end: stream.aheadEnd }
  }
}
