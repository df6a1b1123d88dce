/** The connection of a session, played by the test: keeps what is sent until the test takes it. */

import { FrameParser } from '#agent/session/websocket-frame.ts'
import type { SessionSocket } from '#server/stream/session.ts'
import { BINDING_BYTES } from '#shared/identity/device-key.ts'
import { decodeServerMessage } from '#shared/wire/codec.ts'
import {
  type BootListEntry,
  decodeBootList,
  FRAME_BOOT_LIST,
  FRAME_OBJECTS,
  type ObjectHeader,
  readObjects,
} from '#shared/wire/frame.ts'
import { MESSAGE_BYTES_MAX } from '#shared/wire/limits.ts'
import type { ServerMessage } from '#shared/wire/messages.ts'

export interface ReceivedObject extends ObjectHeader {
  readonly payload: Uint8Array
}

export type SentByServer =
  | { readonly message: ServerMessage }
  | { readonly object: ReceivedObject }
  | { readonly bootList: readonly BootListEntry[] }
  | { readonly closed: { readonly code: number; readonly reason: string } }

/** What only the two ends of a connection know. */
export const FAKE_BINDING: Uint8Array = Buffer.alloc(BINDING_BYTES, 7)

export class FakeSessionSocket implements SessionSocket {
  bufferedBytes = 0
  /** Whether the machine at the other end is there. */
  isAlive = false
  /** Bytes of all that was sent. */
  sentBytes = 0
  /** Of each call of `send`, in order. */
  readonly writes: number[] = []
  /** While true, what is sent stays in the socket and `release` lets it go. */
  congested = false
  #held: { readonly bytes: number; readonly sent: () => void }[] = []
  readonly #inbox: SentByServer[] = []
  readonly #waiting: ((item: SentByServer) => void)[] = []
  readonly #parser = new FrameParser(MESSAGE_BYTES_MAX, (_, frame) => this.#receive(frame))

  binding(): Uint8Array {
    return FAKE_BINDING
  }

  async answers(): Promise<boolean> {
    return this.isAlive
  }

  send(messages: Uint8Array, sent: () => void): void {
    this.sentBytes += messages.length
    this.writes.push(messages.length)
    this.#parser.push(messages)
    if (!this.congested) return queueMicrotask(sent)
    this.bufferedBytes += messages.length
    this.#held.push({ bytes: messages.length, sent })
  }

  close(code: number, reason: string): void {
    this.#deliver({ closed: { code, reason } })
  }

  /** Number of writes the session believes to be in the socket. */
  get heldCount(): number {
    return this.#held.length
  }

  release(): void {
    const held = this.#held
    this.#held = []
    for (const { bytes, sent } of held) {
      this.bufferedBytes -= bytes
      sent()
    }
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
    throw new Error(`expected ${kind}, got ${shown(item)}`)
  }

  async nextObject(): Promise<ReceivedObject> {
    const item = await this.next()
    if ('object' in item) return item.object
    throw new Error(`expected an object, got ${shown(item)}`)
  }

  async nextBootList(): Promise<readonly BootListEntry[]> {
    const item = await this.next()
    if ('bootList' in item) return item.bootList
    throw new Error(`expected a boot list, got ${shown(item)}`)
  }

  async nextClose(): Promise<{ readonly code: number; readonly reason: string }> {
    const item = await this.next()
    if ('closed' in item) return item.closed
    throw new Error(`expected the end, got ${shown(item)}`)
  }

  #receive(frame: Uint8Array): void {
    if (frame[0] === FRAME_BOOT_LIST) return this.#deliver({ bootList: decodeBootList(frame) })
    if (frame[0] !== FRAME_OBJECTS) return this.#deliver({ message: decodeServerMessage(frame) })
    readObjects(frame, (header, payload) => {
      // Copied, since the memory of a payload is used again once it is sent.
      this.#deliver({ object: { ...header, payload: Uint8Array.from(payload) } })
    })
  }

  #deliver(item: SentByServer): void {
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#inbox.push(item)
    else waiting(item)
  }
}

function shown(item: SentByServer): string {
  return JSON.stringify(item).slice(0, 500)
}
