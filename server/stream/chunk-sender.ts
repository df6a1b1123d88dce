/**
 * Answers one session's chunk requests: a read and a send each, most urgent first.
 *
 * A request waits in `#waiting` (by priority, then by arrival), is read (`#reading`, at most
 * `READS_IN_PARALLEL`, sent in the order the reads were started), and is out until the socket has
 * taken it. Nothing is started while `FRAMES_OUT_MAX` frames are out or `BUFFERED_BYTES_MAX` lie in
 * the socket: what stands before a demand read is bounded, and so is the memory a slow client costs.
 */

import type { VersionReader } from '#server/store/chunk-store.ts'
import { chunkCount } from '#shared/chunk/chunk-math.ts'
import { BootwireError } from '#shared/errors.ts'
import { CHUNK_HEADER_BYTES, type ChunkRequest, encodeChunkHeader } from '#shared/wire/frame.ts'
import { REQUESTS_IN_FLIGHT_MAX } from '#shared/wire/limits.ts'
import type { FramePool } from './frame-pool.ts'

/** Enough to keep a disk busy; each starts a little before the one in front of it is sent. */
const READS_IN_PARALLEL = 4

/** Frames of one session in memory: 2 MiB at most. */
const FRAMES_OUT_MAX = 16

/** Four of the largest chunks: at 1 Gbit/s a demand read waits 4 ms behind them. */
const BUFFERED_BYTES_MAX = 512 * 1024

export interface ChunkSenderOptions {
  readonly reader: VersionReader
  readonly frames: FramePool
  /** Hands a frame to the socket; calls `sent` when its memory is free again. */
  readonly send: (frame: Uint8Array, sent: () => void) => void
  /** Bytes the socket holds that the network has not taken yet. */
  readonly bufferedBytes: () => number
  /** The version cannot be read: the session is over. */
  readonly onFailure: (error: unknown, request: ChunkRequest) => void
}

interface Reading {
  readonly frame: Uint8Array
  /** Bytes of the frame to be sent; undefined until they are read. */
  lengthBytes?: number
}

export class ChunkSender {
  readonly #options: ChunkSenderOptions
  readonly #chunkCount: number
  readonly #waiting: ChunkRequest[] = []
  readonly #reading: Reading[] = []
  #framesOut = 0
  #closed = false

  constructor(options: ChunkSenderOptions) {
    this.#options = options
    this.#chunkCount = chunkCount(options.reader)
  }

  /** @throws {BootwireError} MESSAGE_INVALID, LIMIT_EXCEEDED: the session is to be closed */
  request(request: ChunkRequest): void {
    if (request.chunkIndex >= this.#chunkCount) {
      throw new BootwireError(
        'MESSAGE_INVALID',
        `Cannot send chunk ${request.chunkIndex}: the vDisk has ${this.#chunkCount}`,
      )
    }
    if (this.#waiting.length + this.#reading.length >= REQUESTS_IN_FLIGHT_MAX) {
      throw new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot queue another chunk request: ${REQUESTS_IN_FLIGHT_MAX} are unanswered`,
      )
    }
    this.#enqueue(request)
    this.#pump()
  }

  /** Sends nothing more. Reads under way end by themselves. */
  close(): void {
    this.#closed = true
    this.#waiting.length = 0
  }

  /** Behind all that are as urgent: equal priorities stay in order. Short, so a scan is fastest. */
  #enqueue(request: ChunkRequest): void {
    let index = this.#waiting.length
    while (index > 0 && (this.#waiting[index - 1]?.priority ?? 0) > request.priority) index -= 1
    this.#waiting.splice(index, 0, request)
  }

  #pump(): void {
    while (this.#mayStart()) {
      const request = this.#waiting.shift()
      if (request === undefined) return
      void this.#read(request)
    }
  }

  #mayStart(): boolean {
    return (
      !this.#closed &&
      this.#reading.length < READS_IN_PARALLEL &&
      this.#framesOut < FRAMES_OUT_MAX &&
      this.#options.bufferedBytes() < BUFFERED_BYTES_MAX
    )
  }

  async #read(request: ChunkRequest): Promise<void> {
    const frame = this.#options.frames.take()
    const reading: Reading = { frame }
    this.#reading.push(reading)
    this.#framesOut += 1
    try {
      const payload = frame.subarray(CHUNK_HEADER_BYTES)
      const chunk = await this.#options.reader.readChunk(request.chunkIndex, payload)
      frame.set(encodeChunkHeader({ ...chunk, requestId: request.requestId }))
      reading.lengthBytes = CHUNK_HEADER_BYTES + chunk.storedBytes
    } catch (error) {
      if (!this.#closed) this.#options.onFailure(error, request)
      return
    }
    this.#sendRead()
    this.#pump()
  }

  /** Sends what is read, up to the first that is not. */
  #sendRead(): void {
    for (let first = this.#reading[0]; first?.lengthBytes !== undefined; first = this.#reading[0]) {
      this.#reading.shift()
      const { frame, lengthBytes } = first
      if (!this.#closed) this.#options.send(frame.subarray(0, lengthBytes), () => this.#sent(frame))
    }
  }

  #sent(frame: Uint8Array): void {
    this.#framesOut -= 1
    this.#options.frames.give(frame)
    this.#pump()
  }
}
