/** The connection of a session, played by the test: keeps what is sent until the test takes it. */

import type { SessionSocket } from '#server/stream/session.ts'
import { decodeServerMessage } from '#shared/wire/codec.ts'
import {
  CHUNK_HEADER_BYTES,
  type ChunkHeader,
  decodeChunkHeader,
  FRAME_CHUNK,
} from '#shared/wire/frame.ts'
import type { ServerMessage } from '#shared/wire/messages.ts'

export interface ReceivedChunk extends ChunkHeader {
  readonly payload: Uint8Array
}

export type SentByServer =
  | { readonly message: ServerMessage }
  | { readonly chunk: ReceivedChunk }
  | { readonly closed: { readonly code: number; readonly reason: string } }

export class FakeSessionSocket implements SessionSocket {
  bufferedBytes = 0
  /** Bytes of all frames sent. */
  sentBytes = 0
  /** While true, frames stay in the socket and `release` lets them go. */
  congested = false
  #held: (() => void)[] = []
  readonly #inbox: SentByServer[] = []
  readonly #waiting: ((item: SentByServer) => void)[] = []

  send(frame: Uint8Array, sent: () => void): void {
    this.sentBytes += frame.length
    // Copied, since the memory of a frame is used again once it is sent.
    this.#deliver(decode(Uint8Array.from(frame)))
    if (this.congested) this.#held.push(sent)
    else queueMicrotask(sent)
  }

  close(code: number, reason: string): void {
    this.#deliver({ closed: { code, reason } })
  }

  /** Number of frames the session believes to be in the socket. */
  get heldCount(): number {
    return this.#held.length
  }

  release(): void {
    const held = this.#held
    this.#held = []
    for (const sent of held) sent()
  }

  /** The next thing the session sends, in order; waits for it. */
  next(): Promise<SentByServer> {
    const item = this.#inbox.shift()
    if (item !== undefined) return Promise.resolve(item)
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** What was sent and not taken yet. */
  get pending(): readonly SentByServer[] {
    return this.#inbox
  }

  async nextMessage<Kind extends ServerMessage['kind']>(
    kind: Kind,
  ): Promise<Extract<ServerMessage, { kind: Kind }>> {
    const item = await this.next()
    if ('message' in item && item.message.kind === kind) {
      return item.message as Extract<ServerMessage, { kind: Kind }>
    }
    throw new Error(`expected ${kind}, got ${JSON.stringify(item)}`)
  }

  async nextChunk(): Promise<ReceivedChunk> {
    const item = await this.next()
    if ('chunk' in item) return item.chunk
    throw new Error(`expected a chunk, got ${JSON.stringify(item)}`)
  }

  async nextClose(): Promise<{ readonly code: number; readonly reason: string }> {
    const item = await this.next()
    if ('closed' in item) return item.closed
    throw new Error(`expected the end, got ${JSON.stringify(item)}`)
  }

  #deliver(item: SentByServer): void {
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#inbox.push(item)
    else waiting(item)
  }
}

function decode(frame: Uint8Array): SentByServer {
  if (frame[0] !== FRAME_CHUNK) return { message: decodeServerMessage(frame) }
  return { chunk: { ...decodeChunkHeader(frame), payload: frame.subarray(CHUNK_HEADER_BYTES) } }
}
