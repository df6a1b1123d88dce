/**
 * Listens for NBD clients. The main thread accepts and negotiates; each connection then is a worker
 * of its own over the same device. What a client may cost is bounded: the number of connections, the
 * time and the bytes of a handshake, the memory of requests.
 */
import { createServer, type Server, type Socket } from 'node:net'
import type { Export } from './block-device.ts'
import { checkExport } from './check-export.ts'
import { type ConnectionEnd, type NbdConnection, WorkerConnection } from './connection.ts'
import { EventLoopConnection } from './event-loop-connection.ts'
import { Handshake, type HandshakeOutcome } from './handshake.ts'
import { takeDescriptor } from './socket-descriptor.ts'
import type { TransmissionTask } from './transmission-task.ts'
import { type WorkerFiles, workerFilesBeside } from './worker-files.ts'
import { WorkerPool } from './worker-pool.ts'

/** Each takes up to two threads; nbdcopy and qemu use four at most. */
const CONNECTIONS_MAX = 16
/** A handshake is five short messages. */
const HANDSHAKE_TIMEOUT_MS = 10_000
/** Enough for a client to begin at once; each takes about 10 MiB. */
const SPARE_WORKERS = 1

export type ListenAddress =
  | { readonly socketPath: string }
  | { readonly host: string; readonly port: number }

export type NbdServerOptions = ListenAddress & {
  /** What clients may choose from; a client that names none gets the first. */
  readonly exports: readonly Export[]
  /** Clients beyond this number are turned away. Default 16. */
  readonly connectionsMax?: number
  /** Default 10 seconds. */
  readonly handshakeTimeoutMs?: number
  /** Threads of each kind that are kept ready for the next connection. Default 1. */
  readonly spareWorkers?: number
  /** Default: the files beside this one. */
  readonly workers?: WorkerFiles
  /** `event-loop` serves every connection without threads. Default: `workers`. */
  readonly transmission?: 'workers' | 'event-loop'
  /** Told when a connection has ended, and why; for logs. */
  readonly onConnectionEnd?: (end: ConnectionEnd) => void
}

export class NbdServer {
  readonly #options: NbdServerOptions
  readonly #server: Server
  readonly #pools: { readonly transmission: WorkerPool; readonly reply: WorkerPool }
  readonly #negotiating = new Set<Socket>()
  readonly #connections = new Set<NbdConnection>()

  private constructor(options: NbdServerOptions) {
    this.#options = options
    const files = options.workers ?? workerFilesBeside()
    const spare = options.spareWorkers ?? SPARE_WORKERS
    this.#pools = {
      transmission: new WorkerPool(files.transmission, spare),
      reply: new WorkerPool(files.reply, spare),
    }
    // The end of a client's stream is for the worker to find.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (it) => this.#accept(it))
    this.#server.maxConnections = options.connectionsMax ?? CONNECTIONS_MAX
  }

  /** Resolves when clients can connect. Rejects with the error of the system, EADDRINUSE and such. */
  static async listen(options: NbdServerOptions): Promise<NbdServer> {
    for (const each of options.exports) checkExport(each)
    const server = new NbdServer(options)
    await server.#prepareWorkers()
    await server.#listen()
    return server
  }

  /** The port clients connect to; undefined on a unix socket. */
  get port(): number | undefined {
    const address = this.#server.address()
    return typeof address === 'object' ? address?.port : undefined
  }

  /** Connections in their transmission phase. */
  get connectionCount(): number {
    return this.#connections.size
  }

  /** Takes no more clients and asks those there are to hang up; resolves when all of them did. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const socket of this.#negotiating) socket.destroy()
    await Promise.all([...this.#connections].map((each) => each.close()))
    await closed
    await Promise.all([this.#pools.transmission.close(), this.#pools.reply.close()])
  }

  async #prepareWorkers(): Promise<void> {
    if (this.#options.transmission === 'event-loop') return
    const [first] = this.#options.exports
    if (first === undefined) return
    const load: TransmissionTask = { kind: 'load', moduleUrl: first.hot.moduleUrl }
    await this.#pools.transmission.prepare(load)
  }

  #listen(): Promise<void> {
    const options = this.#options
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      const address = 'socketPath' in options ? { path: options.socketPath } : options
      const { path, host, port } = { path: undefined, host: undefined, port: undefined, ...address }
      const where = path === undefined ? { host, port } : { path }
      this.#server.listen(where, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
  }

  #accept(socket: Socket): void {
    const timeoutMs = this.#options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS
    const timer = setTimeout(() => socket.destroy(), timeoutMs)
    this.#negotiating.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      clearTimeout(timer)
      this.#negotiating.delete(socket)
    })
    socket.on('end', () => socket.destroy())
    const handshake = new Handshake(this.#options.exports, (bytes) => socket.write(bytes))
    const onData = (bytes: Buffer): void => {
      const outcome = handshake.receive(bytes)
      if (outcome === undefined) return
      socket.off('data', onData)
      clearTimeout(timer)
      this.#negotiating.delete(socket)
      if (outcome.kind === 'over') socket.destroySoon()
      // It reads nothing of what it asked for; a worker could not write behind that.
      else if (socket.writableLength > 0) socket.destroy()
      else void this.#serve(socket, outcome)
    }
    socket.on('data', onData)
  }

  async #serve(
    socket: Socket,
    outcome: Extract<HandshakeOutcome, { kind: 'done' }>,
  ): Promise<void> {
    const connection = this.#connect(socket, outcome)
    this.#connections.add(connection)
    const end = await connection.closed
    this.#connections.delete(connection)
    this.#options.onConnectionEnd?.(end)
  }

  #connect(socket: Socket, outcome: Extract<HandshakeOutcome, { kind: 'done' }>): NbdConnection {
    const { export: served, negotiated, early } = outcome
    const eventLoop = this.#options.transmission === 'event-loop'
    const fd = eventLoop ? undefined : takeDescriptor(socket)
    if (fd === undefined) {
      return new EventLoopConnection({ socket, export: served, negotiated, early })
    }
    return new WorkerConnection({
      fd,
      export: served,
      negotiated,
      early: Uint8Array.from(early),
      pools: this.#pools,
      hangUp: () => socket.end(),
      release: () => socket.destroy(),
    })
  }
}
