/**
 * A server that says to agents whatever the test tells it to. Its handshake is that of a real one;
 * from there on nothing is done by itself.
 */
import { createPublicKey } from 'node:crypto'
import { once } from 'node:events'
import type { RequestListener } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import { ensureServerKey, type ServerKey } from '#server/tls/server-key.ts'
import { invariant } from '#shared/invariant.ts'
import { decodeAgentMessage, encodeMessage } from '#shared/wire/codec.ts'
import {
  type BootListEntry,
  decodePush,
  decodeRequest,
  decodeTrace,
  encodeBootList,
  FRAME_CONTROL,
  FRAME_PUSH,
  FRAME_TRACE,
  OBJECT_HEADER_BYTES,
  OBJECTS_HEADER_BYTES,
  type ObjectRequest,
  type PushRange,
  type TraceEntry,
  writeObjectHeader,
  writeObjectsHeader,
} from '#shared/wire/frame.ts'
import type { AgentMessage, Identity, Opened, ServerMessage } from '#shared/wire/messages.ts'
import { MemoryVersion, type SigningKey, type StoredObject } from './memory-version.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

/** A key for all scripted servers of a test file. */
export async function createServerKey(): Promise<ServerKey> {
  await using folder = await createTemporaryFolder()
  return await ensureServerKey(folder.path)
}

export class ScriptedServer implements AsyncDisposable {
  readonly port: number
  readonly pin: string
  readonly #server: Server
  readonly #peers = new Queue<ScriptedPeer>()
  readonly #sockets = new Set<Duplex>()

  private constructor(server: Server, pin: string) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    this.pin = pin
    const websockets = new WebSocketServer({ noServer: true, perMessageDeflate: false })
    server.on('secureConnection', (socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => undefined) // agents cut connections
    })
    server.on('upgrade', (request, socket, head) => {
      websockets.handleUpgrade(request, socket, head, (websocket) => {
        this.#peers.push(new ScriptedPeer(socket, websocket))
      })
    })
  }

  static async start(key: ServerKey, port = 0): Promise<ScriptedServer> {
    const server = createServer({ key: key.keyPem, cert: key.certPem, minVersion: 'TLSv1.3' })
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return new ScriptedServer(server, key.pin)
  }

  /** The next connection of an agent, upgraded. */
  nextPeer(): Promise<ScriptedPeer> {
    return this.#peers.next()
  }

  /** Plain requests on the same port, as for boot files. */
  onRequest(listener: RequestListener): void {
    this.#server.on('request', listener)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    if (!this.#server.listening) return
    this.#server.close()
    await once(this.#server, 'close')
  }
}

/** One connection of an agent. */
export class ScriptedPeer {
  /** Below the websocket: for bytes that are no frames. */
  readonly socket: Duplex
  readonly websocket: WebSocket
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>
  readonly #requests = new Queue<ObjectRequest>()
  readonly #pushes = new Queue<PushRange[]>()
  readonly #traces = new Queue<TraceEntry[]>()
  readonly #messages = new Queue<AgentMessage>()

  constructor(socket: Duplex, websocket: WebSocket) {
    this.socket = socket
    this.websocket = websocket
    websocket.on('error', () => undefined) // `closed` tells
    this.closed = new Promise((resolve) => {
      websocket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
    })
    websocket.on('message', (data) => {
      invariant(Buffer.isBuffer(data), 'a websocket message that is no Buffer')
      if (data[0] === FRAME_CONTROL) this.#messages.push(decodeAgentMessage(data))
      else if (data[0] === FRAME_PUSH) this.#pushes.push(decodePush(data))
      else if (data[0] === FRAME_TRACE) this.#traces.push(decodeTrace(data))
      else this.#requests.push(decodeRequest(data))
    })
  }

  nextAny(): Promise<AgentMessage> {
    return this.#messages.next()
  }

  nextRequest(): Promise<ObjectRequest> {
    return this.#requests.next()
  }

  nextPush(): Promise<PushRange[]> {
    return this.#pushes.next()
  }

  nextTrace(): Promise<TraceEntry[]> {
    return this.#traces.next()
  }

  async nextMessage<Kind extends AgentMessage['kind']>(
    kind: Kind,
  ): Promise<Extract<AgentMessage, { kind: Kind }>> {
    const message = await this.#messages.next()
    if (message.kind === kind) return message as Extract<AgentMessage, { kind: Kind }>
    throw new Error(`expected ${kind}, got ${JSON.stringify(message)}`)
  }

  say(message: ServerMessage): void {
    this.websocket.send(encodeMessage(message))
  }

  sendBootList(entries: readonly BootListEntry[]): void {
    this.websocket.send(encodeBootList(entries))
  }

  sendObject({ header, payload }: StoredObject): void {
    const frame = Buffer.alloc(OBJECTS_HEADER_BYTES + OBJECT_HEADER_BYTES + payload.length)
    writeObjectsHeader(frame, 1)
    writeObjectHeader(frame, OBJECTS_HEADER_BYTES, header)
    frame.set(payload, OBJECTS_HEADER_BYTES + OBJECT_HEADER_BYTES)
    this.websocket.send(frame)
  }

  /** Takes the agent's hello, and answers it. */
  async greet(fields: Partial<Identity> = {}): Promise<void> {
    await this.nextMessage('hello')
    this.say(identity(fields))
  }
}

export function identity(fields: Partial<Identity> = {}): Identity {
  return {
    kind: 'identity',
    state: 'approved',
    clientId: '0123456789abcdef',
    hostname: 'client-1',
    machineId: 'a'.repeat(32),
    serverName: 'server',
    offers: [{ vdisk: 'debian', title: 'Debian', sizeBytes: 1_000_000 }],
    defaultVdisk: 'debian',
    menuSeconds: 10,
    serverTimeMs: 0,
    ...fields,
  }
}

export function signingKeyOf({ keyPem, pin }: ServerKey): SigningKey {
  return { keyPem, signerKey: createPublicKey(keyPem).export({ type: 'spki', format: 'der' }), pin }
}

/** No signature is twice the same. */
const versions = new WeakMap<ServerKey, MemoryVersion>()

/** A megabyte of a vDisk, signed by a server's key. */
export function versionBy(serverKey: ServerKey): MemoryVersion {
  const present = versions.get(serverKey)
  if (present !== undefined) return present
  const key = signingKeyOf(serverKey)
  const image = Buffer.alloc(1024 * 1024, 'a vDisk of a scripted server ')
  const version = new MemoryVersion(image, { key })
  versions.set(serverKey, version)
  return version
}

export function openedBy(key: ServerKey, fields: Partial<Opened> = {}): Opened {
  return versionBy(key).opened(fields)
}

/** What came and was not taken yet, or who waits for it. */
class Queue<T> {
  readonly #items: T[] = []
  readonly #waiting: ((item: T) => void)[] = []

  push(item: T): void {
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#items.push(item)
    else waiting(item)
  }

  next(): Promise<T> {
    const item = this.#items.shift()
    if (item !== undefined) return Promise.resolve(item)
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
}
