/** The network between agents and a server: it can be cut at any byte. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export class CuttableNetwork implements AsyncDisposable {
  readonly port: number
  /** Connections of agents so far. */
  connections = 0
  /** A connection is cut when the server has sent so many bytes on it. */
  cutAfterBytes = Number.POSITIVE_INFINITY
  /** While true nothing of the agents arrives, as with a transmitter that is broken. */
  areAgentsMute = false
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(server: Server, targetPort: () => number) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (agent) => this.#join(agent, connect(targetPort(), '127.0.0.1')))
  }

  static async create(targetPort: () => number): Promise<CuttableNetwork> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new CuttableNetwork(server, targetPort)
  }

  /** Not by `resetAndDestroy`: with bytes on their way, Node 24 hangs in it at its exit. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #join(agent: Socket, server: Socket): void {
    this.connections += 1
    let roomBytes = this.cutAfterBytes
    server.on('data', (bytes) => {
      agent.write(bytes.subarray(0, roomBytes), () => {
        if (roomBytes <= 0) agent.destroy()
      })
      roomBytes = Math.max(0, roomBytes - bytes.length)
    })
    agent.on('data', (bytes) => {
      if (!this.areAgentsMute) server.write(bytes)
    })
    for (const [one, other] of [[agent, server] as const, [server, agent] as const]) {
      this.#sockets.add(one)
      one.on('error', () => undefined) // `close` follows
      one.on('close', () => {
        this.#sockets.delete(one)
        other.destroy()
      })
    }
  }
}
