/** A server of chunks that answers when told to, in the order and the way it is told to. */
import { zstdCompressSync } from 'node:zlib'
import type { ChunkListener, ChunkTransport } from '#agent/block/chunk-transport.ts'
import { type ChunkGrid, chunkLength, chunkOffset } from '#shared/chunk/chunk-math.ts'
import { invariant } from '#shared/invariant.ts'
import { CHUNK_ENCODING, type ChunkHeader, type ChunkRequest } from '#shared/wire/frame.ts'

export class FakeChunkTransport implements ChunkTransport {
  /** Requests not answered yet, in the order they came. */
  readonly pending: ChunkRequest[] = []
  /** Every request that was ever sent. */
  readonly requests: ChunkRequest[] = []
  readonly grid: ChunkGrid
  readonly #image: Uint8Array
  #listener: ChunkListener | undefined
  #open: boolean

  constructor(image: Uint8Array, chunkBytes: number, open = true) {
    this.#image = image
    this.grid = { sizeBytes: image.length, chunkBytes }
    this.#open = open
  }

  listen(listener: ChunkListener): void {
    this.#listener = listener
    if (this.#open) listener.onOpen()
  }

  request(request: ChunkRequest): void {
    if (!this.#open) return
    this.pending.push(request)
    this.requests.push(request)
  }

  open(): void {
    this.#open = true
    this.#listener?.onOpen()
  }

  lose(): void {
    this.#open = false
    this.pending.length = 0
    this.#listener?.onLost()
  }

  /** Answers one pending request well. */
  answer(at = 0): void {
    const request = this.#takePending(at)
    const chunk = this.#chunk(request.chunkIndex)
    this.#send(request, ...encode(chunk), chunk.length)
  }

  answerAll(): void {
    while (this.pending.length > 0) this.answer()
  }

  /** Answers one pending request with whatever is given. */
  answerWith(at: number, answer: Partial<ChunkHeader> & { readonly payload: Uint8Array }): void {
    const request = this.#takePending(at)
    const rawBytes = answer.rawBytes ?? chunkLength(this.grid, request.chunkIndex)
    this.#send(request, answer.encoding ?? CHUNK_ENCODING.zstd, answer.payload, rawBytes)
  }

  /** Delivers an answer nobody waits for. */
  deliver(header: ChunkHeader, payload: Uint8Array): void {
    this.#listener?.onChunk(header, payload)
  }

  #takePending(at: number): ChunkRequest {
    const [request] = this.pending.splice(at, 1)
    invariant(request !== undefined, `no pending request ${at}`)
    return request
  }

  #chunk(chunkIndex: number): Uint8Array {
    const offset = chunkOffset(this.grid, chunkIndex)
    return this.#image.subarray(offset, offset + chunkLength(this.grid, chunkIndex))
  }

  #send(
    { requestId }: ChunkRequest,
    encoding: ChunkHeader['encoding'],
    payload: Uint8Array,
    rawBytes: number,
  ): void {
    // In memory that changes right after, as a transport may do.
    const copy = Uint8Array.from(payload)
    this.#listener?.onChunk({ requestId, encoding, rawBytes }, copy)
    copy.fill(0xee)
  }
}

function encode(chunk: Uint8Array): [ChunkHeader['encoding'], Uint8Array] {
  if (chunk.every((byte) => byte === 0)) return [CHUNK_ENCODING.zero, new Uint8Array(0)]
  // Both ways are used: what shrinks little travels raw.
  const packed = zstdCompressSync(chunk)
  return packed.length < chunk.length / 2
    ? [CHUNK_ENCODING.zstd, packed]
    : [CHUNK_ENCODING.raw, chunk]
}
