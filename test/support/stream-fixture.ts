/** A server of sessions on a real TLS port over parts in memory, and agents that talk to it. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { WebSocket } from 'ws'
import { closeServer, createAgentServer } from '#server/http-servers.ts'
import { silentLog } from '#server/log.ts'
import { STREAM_LIMITS, type StreamLimits, StreamServer } from '#server/stream/stream-server.ts'
import { enrolSecret, ensureServerKey, type ServerKey } from '#server/tls/server-key.ts'
import { decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
import { FRAME_CONTROL } from '#shared/wire/frame.ts'
import { AGENT_PATH } from '#shared/wire/limits.ts'
import type { AgentMessage, ServerMessage } from '#shared/wire/messages.ts'
import { createTestCore, type TestCore } from './server-core.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface StreamFixture extends AsyncDisposable {
  readonly core: TestCore
  readonly stream: StreamServer
  readonly port: number
  readonly key: ServerKey
}

export interface StreamFixtureOptions {
  readonly core?: TestCore
  readonly limits?: Partial<StreamLimits>
  /** Of an earlier server, to be that server again. */
  readonly key?: ServerKey
  readonly port?: number
}

export async function startStream(options: StreamFixtureOptions = {}): Promise<StreamFixture> {
  const core = options.core ?? createTestCore()
  await using folder = await createTemporaryFolder()
  const key = options.key ?? (await ensureServerKey(folder.path))
  const server = createAgentServer(key)
  const stream = new StreamServer(
    {
      ...core,
      settings: { serverName: 'server', menuSeconds: 10, enrolSecret: enrolSecret(key) },
      now: Date.now,
      log: silentLog(),
    },
    { ...STREAM_LIMITS, ...options.limits },
  )
  server.on('upgrade', stream.upgrade)
  server.listen(options.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const stop = async () => {
    await stream.close()
    await closeServer(server)
  }
  return { core, stream, port, key, [Symbol.asyncDispose]: stop }
}

/** What a test agent received: a message, or a frame that is none. */
type Received = { readonly message: ServerMessage } | { readonly frame: Uint8Array }

/** An agent's connection over TLS. Messages wait until the test takes them. */
export class TestAgent {
  readonly socket: WebSocket
  /** How the server closed the connection. */
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>
  readonly #inbox: Received[] = []
  readonly #waiting: ((received: Received) => void)[] = []

  constructor(port: number, options: { readonly silent?: boolean } = {}) {
    // The pin is the agent's business, not the server's.
    this.socket = new WebSocket(`wss://127.0.0.1:${port}${AGENT_PATH}`, {
      rejectUnauthorized: false,
      perMessageDeflate: false,
      autoPong: options.silent !== true,
    })
    this.socket.on('message', (data: Buffer) => this.#take(data))
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
    })
    this.socket.on('error', () => undefined) // `closed` tells
  }

  /** A silent agent answers no pings, as behind a pulled cable. */
  static async connect(
    port: number,
    options: { readonly silent?: boolean } = {},
  ): Promise<TestAgent> {
    const agent = new TestAgent(port, options)
    await once(agent.socket, 'open')
    return agent
  }

  say(message: AgentMessage): void {
    this.socket.send(encodeMessage(message))
  }

  next(): Promise<Received> {
    const received = this.#inbox.shift()
    if (received !== undefined) return Promise.resolve(received)
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  async nextMessage<Kind extends ServerMessage['kind']>(
    kind: Kind,
  ): Promise<Extract<ServerMessage, { kind: Kind }>> {
    const received = await this.next()
    if ('message' in received && received.message.kind === kind) {
      return received.message as Extract<ServerMessage, { kind: Kind }>
    }
    throw new Error(`expected ${kind}, got ${JSON.stringify(received)}`)
  }

  #take(data: Buffer): void {
    const received =
      data[0] === FRAME_CONTROL ? { message: decodeServerMessage(data) } : { frame: data }
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#inbox.push(received)
    else waiting(received)
  }
}
