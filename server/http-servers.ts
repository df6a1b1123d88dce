/** The public listeners: plain HTTP for firmware and iPXE, TLS for agents, and TLS for administrators. */
import { createServer, type Server as HttpServer } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { peerAddress } from './peer-address.ts'
import type { ServerKey } from './tls/server-key.ts'

export interface HttpTimeouts {
  /** A request is a line and a few headers; whoever needs longer for them is not one of ours. */
  readonly headersMs: number
  readonly requestMs: number
  /** How often the two above are looked at. */
  readonly checkIntervalMs: number
  /** A TLS handshake takes milliseconds; over a slow line with losses a few seconds. */
  readonly tlsHandshakeMs: number
  /** A download that stands still this long is given up; iPXE asks again. */
  readonly idleMs: number
}

export const HTTP_TIMEOUTS: HttpTimeouts = {
  headersMs: 5000,
  requestMs: 10_000,
  checkIntervalMs: 1000,
  tlsHandshakeMs: 10_000,
  idleMs: 60_000,
}

/** Sockets at once per listener: a full site's agents, and as many again that boot. */
const CONNECTIONS_MAX = 20_000

/**
 * Sockets of one address: a class room behind one router, each machine with its stream and a download.
 * A download that nobody reads holds half a MiB, which one machine must not multiply at will.
 */
export const CONNECTIONS_PER_ADDRESS_MAX = 512

/** AES-128 first: a tenth cheaper than AES-256, here and on the clients. */
const CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256'

/** An image that is uploaded takes as long as it takes, and an import is silent while it thinks. */
const ADMIN_TIMEOUTS: HttpTimeouts = { ...HTTP_TIMEOUTS, requestMs: 0, idleMs: 600_000 }

/**
 * Where packets of full size are lost on the way (a wrong MTU), a download stands still, and iPXE would wait for
 * ever. Node notices between this and twice this.
 */
const BOOT_TIMEOUTS: HttpTimeouts = { ...HTTP_TIMEOUTS, idleMs: 20_000 }

/**
 * After an answer the end of it may still be under way, which a reset would cut off: 4 MiB of the system's
 * buffer take half a minute at 1 Mb/s.
 */
const BOOT_KEEP_ALIVE_MS = 60_000

/** Administration from afar. */
export function createAdminServer(key: ServerKey): TlsServer {
  return createAgentServer(key, ADMIN_TIMEOUTS)
}

export function createBootServer(timeouts: HttpTimeouts = BOOT_TIMEOUTS): HttpServer {
  const server = bounded(createServer(httpOptions(timeouts)), timeouts)
  server.keepAliveTimeout = BOOT_KEEP_ALIVE_MS
  // An end of the stream would wait behind what does not arrive; a reset goes through, and iPXE says so.
  server.on('timeout', (socket: Socket) => socket.resetAndDestroy())
  return server
}

/** Agents speak TLS 1.3 (PROTOCOL.md §1), and nothing else comes here. */
export function createAgentServer(
  key: ServerKey,
  timeouts: HttpTimeouts = HTTP_TIMEOUTS,
): TlsServer {
  const server = createTlsServer({
    ...httpOptions(timeouts),
    key: key.keyPem,
    cert: key.certPem,
    minVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    handshakeTimeout: timeouts.tlsHandshakeMs,
  })
  return bounded(server, timeouts)
}

function httpOptions({ headersMs, requestMs, checkIntervalMs }: HttpTimeouts) {
  return {
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: checkIntervalMs,
  }
}

function bounded<Server extends HttpServer | TlsServer>(
  server: Server,
  { idleMs }: HttpTimeouts,
): Server {
  server.setTimeout(idleMs)
  server.maxConnections = CONNECTIONS_MAX
  followSockets(server)
  return server
}

/**
 * Stops listening and cuts what is left: downloads are asked for again. Sockets are followed from
 * their first packet, since those that have not finished their handshake are in no list of Node's.
 */
export async function closeServer(server: HttpServer | TlsServer): Promise<void> {
  if (!server.listening) return
  const closed = new Promise((resolve) => server.close(resolve))
  for (const socket of socketsByServer.get(server) ?? []) socket.destroy()
  await closed
}

const socketsByServer = new WeakMap<HttpServer | TlsServer, Set<Socket>>()

function followSockets(server: HttpServer | TlsServer): void {
  const sockets = new Set<Socket>()
  const countByAddress = new Map<string, number>()
  const count = (address: string, change: number): number => {
    const counted = (countByAddress.get(address) ?? 0) + change
    if (counted > 0) countByAddress.set(address, counted)
    else countByAddress.delete(address)
    return counted
  }
  socketsByServer.set(server, sockets)
  server.on('connection', (socket: Socket) => {
    const address = peerAddress(socket)
    sockets.add(socket)
    socket.once('close', () => {
      sockets.delete(socket)
      count(address, -1)
    })
    if (count(address, 1) > CONNECTIONS_PER_ADDRESS_MAX) socket.destroy()
  })
}
