/**
 * The same session as the agent's, over the stock client of the `ws` package: what the agent's own
 * websocket is measured against. It answers to one server, and does not come back.
 */
import { WebSocket } from 'ws'
import type { ObjectListener, ObjectTransport } from '#agent/fetch/object-transport.ts'
import { invariant } from '#shared/invariant.ts'
import { decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
import {
  encodeRequest,
  FRAME_CONTROL,
  type ObjectRequest,
  readObjects,
} from '#shared/wire/frame.ts'
import { AGENT_PATH, MESSAGE_BYTES_MAX } from '#shared/wire/limits.ts'
import type { AgentMessage, Opened } from '#shared/wire/messages.ts'

export class WsTransport implements ObjectTransport {
  readonly #socket: WebSocket
  readonly #opened = Promise.withResolvers<Opened>()
  readonly #vdisk: string
  #listener: ObjectListener | undefined

  constructor(port: number, hello: AgentMessage, vdisk: string) {
    this.#vdisk = vdisk
    this.#socket = new WebSocket(`wss://127.0.0.1:${port}${AGENT_PATH}`, {
      rejectUnauthorized: false,
      perMessageDeflate: false,
      maxPayload: MESSAGE_BYTES_MAX,
    })
    this.#socket.on('error', this.#opened.reject)
    this.#socket.on('open', () => this.#socket.send(encodeMessage(hello)))
    this.#socket.on('message', (data) => {
      invariant(Buffer.isBuffer(data), 'a websocket message that is no Buffer')
      this.#take(data)
    })
  }

  get opened(): Promise<Opened> {
    return this.#opened.promise
  }

  listen(listener: ObjectListener): void {
    this.#listener = listener
    listener.onOpen()
  }

  request(request: ObjectRequest): void {
    this.#socket.send(encodeRequest(request))
  }

  push(): void {
    // Nobody boots.
  }

  sendTrace(): void {
    // Nor does anybody trace.
  }

  close(): void {
    this.#socket.close()
  }

  #take(message: Buffer): void {
    if (message[0] !== FRAME_CONTROL) {
      readObjects(message, (header, payload) => this.#listener?.onObject(header, payload))
      return
    }
    const control = decodeServerMessage(message)
    if (control.kind === 'opened') this.#opened.resolve(control)
    else if (control.kind === 'error') this.#opened.reject(new Error(control.message))
    else this.#socket.send(encodeMessage({ kind: 'open', vdisk: this.#vdisk, firstPushBytes: 0 }))
  }
}
