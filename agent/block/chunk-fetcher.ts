/**
 * Fetches chunks from the server into the RAM tier. Each chunk is asked for once, however many
 * reads wait for it; what the kernel waits for goes before what is fetched ahead.
 *
 *   queued --(a request may be sent, and frames are reserved)--> in flight --(decoded)--> done
 *     ^--(the connection is lost, or the chunk did not decode)------'  '--(too often)--> failed
 *
 * Frames are reserved before a chunk is asked for, so that it is decoded where it stays the moment
 * it arrives, and a reader that holds up the RAM tier only holds up requests. Main thread only.
 */

import { type ChunkGrid, chunkCount, chunkLength, chunkOffset } from '#shared/chunk/chunk-math.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { CHUNK_ENCODING, type ChunkHeader } from '#shared/wire/frame.ts'
import { REQUESTS_IN_FLIGHT_MAX } from '#shared/wire/limits.ts'
import { BLOCK_BYTES, blockCount } from './block-size.ts'
import type { ChunkDecoder } from './chunk-decoder.ts'
import type { ChunkListener, ChunkTransport } from './chunk-transport.ts'
import type { RamTier, Reservation } from './ram-tier.ts'
import { SequentialReadahead } from './sequential-readahead.ts'

const PRIORITY_DEMAND = 0
const PRIORITY_PREFETCH = 1

/**
 * Requests of prefetch that may be unanswered. The connection is first in, first out: a demand read
 * waits for what is on its way already, at most 1 MiB in chunks of 64 KiB.
 */
const PREFETCH_IN_FLIGHT_MAX = 16

/** Chunks that wait to be fetched ahead; older ones are forgotten, for their reader came past. */
const PREFETCH_QUEUE_MAX = 64

/** A chunk that does not decode is asked for this often before a read fails. */
const ATTEMPTS_MAX = 3

/** A request id is 32 bits on the wire. */
const REQUEST_IDS = 2 ** 32

/** Called once: without an error when the chunk is in the RAM tier, where it may be gone after the call. */
export type ChunkWaiter = (error?: unknown) => void

export interface ChunkFetcherOptions {
  readonly grid: ChunkGrid
  readonly tier: RamTier
  readonly transport: ChunkTransport
  readonly decoder: ChunkDecoder
  readonly readahead: boolean
  /** A chunk could not be decoded in all attempts. */
  readonly onUnreadable: (chunkIndex: number, error: BootwireError) => void
}

interface Fetch {
  readonly chunkIndex: number
  readonly waiters: ChunkWaiter[]
  attempts: number
  /** Where it waits; a fetch in flight keeps what it was asked for as. */
  priority: typeof PRIORITY_DEMAND | typeof PRIORITY_PREFETCH
  /** Present while in flight. */
  reservation: Reservation | undefined
}

export class ChunkFetcher implements ChunkListener {
  readonly #options: ChunkFetcherOptions
  readonly #inFlightMax: number
  readonly #readahead: SequentialReadahead
  readonly #fetchByChunk = new Map<number, Fetch>()
  readonly #demands: Fetch[] = []
  readonly #prefetches: Fetch[] = []
  readonly #inFlightByRequest = new Map<number, Fetch>()
  #prefetchesInFlight = 0
  #lastRequestId = 0
  #open = false
  #closed = false
  #waitsForRoom = false
  #chunksReceived = 0
  #chunkBytesReceived = 0

  constructor(options: ChunkFetcherOptions) {
    this.#options = options
    this.#inFlightMax = Math.min(REQUESTS_IN_FLIGHT_MAX, options.tier.reservationsMax)
    this.#readahead = new SequentialReadahead(chunkCount(options.grid))
    options.transport.listen(this)
  }

  get chunksReceived(): number {
    return this.#chunksReceived
  }

  /** Payload of the chunks received, as it came over the wire. */
  get chunkBytesReceived(): number {
    return this.#chunkBytesReceived
  }

  /** Fetches a chunk that somebody waits for. Never fails because the server is away: it waits. */
  demand(chunkIndex: number, waiter: ChunkWaiter): void {
    if (this.#closed) {
      waiter(closedError())
      return
    }
    const present = this.#fetchByChunk.get(chunkIndex)
    const fetch = present ?? this.#createFetch(chunkIndex, PRIORITY_DEMAND)
    fetch.waiters.push(waiter)
    if (present === undefined) this.#demands.push(fetch)
    else if (fetch.reservation === undefined && fetch.priority === PRIORITY_PREFETCH) {
      this.#prefetches.splice(this.#prefetches.indexOf(fetch), 1)
      fetch.priority = PRIORITY_DEMAND
      this.#demands.push(fetch)
    }
    this.#send()
  }

  /** Says that the chunks from `first` to before `end` were read, so that what follows is fetched ahead. */
  readAhead(first: number, end: number): void {
    if (!this.#options.readahead || this.#closed) return
    const ahead = this.#readahead.next(first, end)
    for (let chunkIndex = ahead.first; chunkIndex < ahead.end; chunkIndex += 1) {
      const isHere = this.#options.tier.has(this.#firstBlock(chunkIndex))
      if (isHere || this.#fetchByChunk.has(chunkIndex)) continue
      this.#prefetches.push(this.#createFetch(chunkIndex, PRIORITY_PREFETCH))
      if (this.#prefetches.length > PREFETCH_QUEUE_MAX) this.#forget(this.#prefetches.shift())
    }
    this.#send()
  }

  /** Rejects everybody who waits, now and later. */
  close(): void {
    this.#closed = true
    this.#open = false
    const fetches = [...this.#fetchByChunk.values()]
    this.#fetchByChunk.clear()
    for (const fetch of fetches) for (const waiter of fetch.waiters) waiter(closedError())
  }

  onOpen(): void {
    this.#open = !this.#closed
    this.#send()
  }

  onLost(): void {
    this.#open = false
    const lost = [...this.#inFlightByRequest.values()]
    this.#inFlightByRequest.clear()
    this.#prefetchesInFlight = 0
    // From the last to the first: each goes before what waits already.
    for (const fetch of lost.toReversed()) this.#requeue(fetch)
  }

  onChunk(header: ChunkHeader, payload: Uint8Array): void {
    const fetch = this.#inFlightByRequest.get(header.requestId)
    // Not ours: an answer that was on its way when its connection was lost.
    if (fetch === undefined || this.#closed) return
    this.#inFlightByRequest.delete(header.requestId)
    if (fetch.priority === PRIORITY_PREFETCH) this.#prefetchesInFlight -= 1
    this.#chunksReceived += 1
    this.#chunkBytesReceived += payload.length
    try {
      this.#store(fetch, header, payload)
    } catch (error) {
      this.#retry(fetch, error)
      return
    }
    this.#fetchByChunk.delete(fetch.chunkIndex)
    for (const waiter of fetch.waiters) waiter()
    this.#send()
  }

  #createFetch(chunkIndex: number, priority: Fetch['priority']): Fetch {
    const fetch: Fetch = { chunkIndex, waiters: [], attempts: 0, priority, reservation: undefined }
    this.#fetchByChunk.set(chunkIndex, fetch)
    return fetch
  }

  #forget(fetch: Fetch | undefined): void {
    if (fetch !== undefined) this.#fetchByChunk.delete(fetch.chunkIndex)
  }

  /** Sends as many requests as may be in flight. */
  #send(): void {
    while (this.#open && this.#inFlightByRequest.size < this.#inFlightMax) {
      const mayPrefetch = this.#prefetchesInFlight < PREFETCH_IN_FLIGHT_MAX
      const queue = this.#demands.length > 0 || !mayPrefetch ? this.#demands : this.#prefetches
      const fetch = queue[0]
      if (fetch === undefined) return
      const { tier, grid, transport } = this.#options
      const reservation = tier.reserve(chunkLength(grid, fetch.chunkIndex))
      if (reservation === undefined) {
        this.#waitForRoom()
        return
      }
      queue.shift()
      fetch.reservation = reservation
      this.#lastRequestId = (this.#lastRequestId + 1) % REQUEST_IDS
      this.#inFlightByRequest.set(this.#lastRequestId, fetch)
      if (fetch.priority === PRIORITY_PREFETCH) this.#prefetchesInFlight += 1
      const { chunkIndex, priority } = fetch
      transport.request({ requestId: this.#lastRequestId, chunkIndex, priority })
    }
  }

  #waitForRoom(): void {
    if (this.#waitsForRoom) return
    this.#waitsForRoom = true
    void this.#options.tier.room().then(() => {
      this.#waitsForRoom = false
      this.#send()
    })
  }

  /** @throws {BootwireError} CHUNK_CORRUPT */
  #store(fetch: Fetch, header: ChunkHeader, payload: Uint8Array): void {
    const { grid, tier, decoder } = this.#options
    const { reservation, chunkIndex } = fetch
    invariant(reservation !== undefined, `chunk ${chunkIndex} came without room for it`)
    const expectedBytes = chunkLength(grid, chunkIndex)
    if (header.rawBytes !== expectedBytes) {
      throw new BootwireError(
        'CHUNK_CORRUPT',
        `Cannot use chunk ${chunkIndex}: it has ${header.rawBytes} bytes, expected ${expectedBytes}`,
      )
    }
    if (header.encoding === CHUNK_ENCODING.zero) {
      tier.cancel(reservation)
      tier.publishZeros(this.#firstBlock(chunkIndex), blockCount(expectedBytes))
    } else {
      decoder.decode(header, payload, reservation.memory, reservation.offset)
      tier.publish(reservation, this.#firstBlock(chunkIndex))
    }
    fetch.reservation = undefined
  }

  #retry(fetch: Fetch, error: unknown): void {
    if (!(error instanceof BootwireError)) throw error
    fetch.attempts += 1
    if (fetch.attempts < ATTEMPTS_MAX) {
      this.#requeue(fetch)
      this.#send()
      return
    }
    this.#release(fetch)
    this.#fetchByChunk.delete(fetch.chunkIndex)
    this.#options.onUnreadable(fetch.chunkIndex, error)
    for (const waiter of fetch.waiters) waiter(error)
    this.#send()
  }

  #requeue(fetch: Fetch): void {
    this.#release(fetch)
    fetch.priority = fetch.waiters.length > 0 ? PRIORITY_DEMAND : PRIORITY_PREFETCH
    const queue = fetch.priority === PRIORITY_DEMAND ? this.#demands : this.#prefetches
    queue.unshift(fetch)
  }

  #release(fetch: Fetch): void {
    if (fetch.reservation !== undefined) this.#options.tier.cancel(fetch.reservation)
    fetch.reservation = undefined
  }

  #firstBlock(chunkIndex: number): number {
    return chunkOffset(this.#options.grid, chunkIndex) / BLOCK_BYTES
  }
}

function closedError(): Error {
  return new DOMException('The vDisk was closed', 'AbortError')
}
