/**
 * Accepts agents' websockets and gives each a session. Everything a stranger can do before and
 * around a session is bounded here: connections, message size, time until hello, silence.
 */
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { type RawData, type ServerOptions, WebSocket, WebSocketServer } from 'ws'
import { peerAddress } from '#server/peer-address.ts'
import { BootwireError } from '#shared/errors.ts'
import { BINDING_BYTES, BINDING_LABEL } from '#shared/identity/device-key.ts'
import { invariant } from '#shared/invariant.ts'
import {
  AGENT_PATH,
  HELLO_TIMEOUT_MS,
  MESSAGE_BYTES_MAX,
  PING_INTERVAL_MS,
  SILENCE_TIMEOUT_MS,
} from '#shared/wire/limits.ts'
import { CLOSE_CODE } from './close-code.ts'
import { Session, type SessionServices, type SessionSocket } from './session.ts'
import { SessionWriter } from './session-writer.ts'

export interface StreamLimits {
  /** Connections of all agents: a site of ten thousand, while some reconnect. */
  readonly connectionsMax: number
  /** Connections from one address: a class room behind one router. */
  readonly connectionsPerAddressMax: number
  readonly helloTimeoutMs: number
  readonly pingIntervalMs: number
  readonly silenceTimeoutMs: number
}

export const STREAM_LIMITS: StreamLimits = {
  connectionsMax: 12_000,
  connectionsPerAddressMax: 256,
  helloTimeoutMs: HELLO_TIMEOUT_MS,
  pingIntervalMs: PING_INTERVAL_MS,
  silenceTimeoutMs: SILENCE_TIMEOUT_MS,
}

/** Largest message an agent may send: a trace. Control messages are bounded by themselves. */
const AGENT_MESSAGE_BYTES_MAX = MESSAGE_BYTES_MAX

/** How long a peer may take to answer a close frame before its connection is cut. */
const CLOSE_TIMEOUT_MS = 2000

/** `closeTimeout` is missing in the type declarations of ws. */
const WEBSOCKET_OPTIONS: ServerOptions & { readonly closeTimeout: number } = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: AGENT_MESSAGE_BYTES_MAX,
  closeTimeout: CLOSE_TIMEOUT_MS,
}

interface Connection {
  readonly socket: WebSocket
  readonly session: Session
  readonly address: string
  lastHeardMs: number
  readonly openedMs: number
}

export class StreamServer {
  readonly #services: SessionServices
  readonly #limits: StreamLimits
  readonly #websockets: WebSocketServer
  readonly #connections = new Map<WebSocket, Connection>()
  readonly #connectionsByAddress = new Map<string, number>()
  readonly #watch: NodeJS.Timeout

  constructor(services: SessionServices, limits: StreamLimits = STREAM_LIMITS) {
    this.#services = services
    this.#limits = limits
    this.#websockets = new WebSocketServer(WEBSOCKET_OPTIONS)
    const stepMs = Math.min(limits.pingIntervalMs, limits.helloTimeoutMs) / 2
    this.#watch = setInterval(() => this.#watchConnections(), stepMs)
  }

  get connectionCount(): number {
    return this.#connections.size
  }

  /** Takes an HTTP upgrade request, which only becomes a session when it is an agent's. */
  readonly upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    const address = peerAddress(request.socket)
    // Until ws takes over, an error of the socket has no other listener and would end the process.
    socket.on('error', ignoreError)
    const path = request.url?.split('?', 1)[0]
    if (path !== AGENT_PATH) return refuse(socket, '404 Not Found')
    if (this.#isFull(address)) {
      this.#services.log.warn({ address }, 'too many connections: one was refused')
      return refuse(socket, '503 Service Unavailable')
    }
    this.#websockets.handleUpgrade(request, socket, head, (websocket) => {
      socket.off('error', ignoreError)
      this.#accept(websocket, socket, address)
    })
  }

  /**
   * Ends all sessions, whose agents wait and come back, and returns when their connections are
   * closed; ws cuts those that do not answer within `CLOSE_TIMEOUT_MS`.
   */
  async close(): Promise<void> {
    clearInterval(this.#watch)
    const gone = [...this.#connections.values()].map(({ socket, session }) => {
      const closed = once(socket, 'close')
      session.end(CLOSE_CODE.goingAway, 'the server stops')
      return closed
    })
    await Promise.all(gone)
    this.#websockets.close()
  }

  #accept(socket: WebSocket, stream: Duplex, address: string): void {
    const session = new Session(sessionSocket(socket, stream), address, this.#services)
    const nowMs = performance.now()
    const connection = { socket, session, address, lastHeardMs: nowMs, openedMs: nowMs }
    this.#connections.set(socket, connection)
    this.#connectionsByAddress.set(address, this.#countOf(address) + 1)
    const heard = () => {
      connection.lastHeardMs = performance.now()
    }
    socket.on('message', (data, isBinary) => {
      heard()
      if (isBinary) session.receive(bytesOf(data))
      else
        session.reject(
          new BootwireError('MESSAGE_INVALID', 'Cannot use a text message: expected binary'),
        )
    })
    socket.on('ping', heard)
    socket.on('pong', heard)
    socket.on('error', (error) => this.#broken(address, error))
    socket.on('close', () => this.#gone(connection))
  }

  /** ws has answered already, with close code 1002, 1007 or 1009; `close` follows. */
  #broken(address: string, error: Error): void {
    this.#services.log.warn({ address }, `websocket error: ${error.message}`)
  }

  #gone({ socket, session, address }: Connection): void {
    this.#connections.delete(socket)
    const left = this.#countOf(address) - 1
    if (left > 0) this.#connectionsByAddress.set(address, left)
    else this.#connectionsByAddress.delete(address)
    session.disconnected()
  }

  #isFull(address: string): boolean {
    const { connectionsMax, connectionsPerAddressMax } = this.#limits
    return (
      this.#connections.size >= connectionsMax || this.#countOf(address) >= connectionsPerAddressMax
    )
  }

  #countOf(address: string): number {
    return this.#connectionsByAddress.get(address) ?? 0
  }

  #watchConnections(): void {
    const nowMs = performance.now()
    for (const connection of this.#connections.values()) this.#watchOne(connection, nowMs)
  }

  #watchOne({ socket, session, lastHeardMs, openedMs }: Connection, nowMs: number): void {
    const { helloTimeoutMs, pingIntervalMs, silenceTimeoutMs } = this.#limits
    const silentMs = nowMs - lastHeardMs
    if (silentMs >= silenceTimeoutMs) return socket.terminate()
    if (isUnknown(session) && nowMs - openedMs >= helloTimeoutMs) {
      const seconds = helloTimeoutMs / 1000
      session.reject(
        new BootwireError('MESSAGE_INVALID', `Cannot wait longer: no hello came in ${seconds} s`),
      )
      return
    }
    if (silentMs >= pingIntervalMs && socket.readyState === WebSocket.OPEN) socket.ping()
  }
}

/**
 * Messages come ready to be written, and go past ws to the stream below it: between two of them ws
 * writes whole frames only, and none after its close frame.
 */
function sessionSocket(websocket: WebSocket, stream: Duplex): SessionSocket {
  const writer = new SessionWriter(stream)
  return {
    send: (messages, sent) => {
      if (websocket.readyState === WebSocket.OPEN) writer.write(messages, sent)
      else sent()
    },
    close: (code, reason) => {
      writer.flush()
      websocket.close(code, reason)
    },
    answers: (timeoutMs) => answersPing(websocket, timeoutMs),
    get bufferedBytes() {
      return writer.bufferedBytes
    },
    binding: () => {
      invariant(stream instanceof TLSSocket, 'agents come over TLS')
      return stream.exportKeyingMaterial(BINDING_BYTES, BINDING_LABEL, NO_CONTEXT)
    },
  }
}

async function answersPing(websocket: WebSocket, timeoutMs: number): Promise<boolean> {
  if (websocket.readyState !== WebSocket.OPEN) return false
  const signal = AbortSignal.timeout(timeoutMs)
  const pong = once(websocket, 'pong', { signal })
  websocket.ping()
  return await pong.then(
    () => websocket.readyState === WebSocket.OPEN,
    () => false,
  )
}

function isUnknown({ state }: Session): boolean {
  return state === 'hello' || state === 'challenged'
}

/** RFC 8446 §7.5: none, and an empty one, are the same. */
const NO_CONTEXT = Buffer.alloc(0)

/** With the default `binaryType`, ws gives one Buffer per message. */
function bytesOf(data: RawData): Uint8Array {
  invariant(Buffer.isBuffer(data), 'a websocket message that is no Buffer')
  return data
}

function refuse(socket: Duplex, status: string): void {
  const answer = `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`
  // The peer may keep its half of the connection open for ever; nobody listens there.
  socket.end(answer, () => socket.destroy())
}

function ignoreError(): void {
  // The connection is gone; `close` follows and nothing else is held by it.
}
