/** The two public listeners: plain HTTP for firmware and iPXE, TLS for agents. */
import { createServer, type Server as HttpServer } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import type { ServerKey } from './tls/server-key.ts'

/** A request is a line and a few headers; whoever needs longer is not one of ours. */
const HEADERS_TIMEOUT_MS = 5000
const REQUEST_TIMEOUT_MS = 10_000

/** How often the two above are looked at. */
const TIMEOUT_CHECK_INTERVAL_MS = 1000

/** A TLS handshake takes milliseconds; a slow line with losses a few seconds. */
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000

/** A download that stands still this long is given up; iPXE asks again. */
const IDLE_TIMEOUT_MS = 60_000

/** Sockets at once per listener: a full site's agents, and as many again that boot. */
const CONNECTIONS_MAX = 20_000

const HTTP_OPTIONS = {
  headersTimeout: HEADERS_TIMEOUT_MS,
  requestTimeout: REQUEST_TIMEOUT_MS,
  connectionsCheckingInterval: TIMEOUT_CHECK_INTERVAL_MS,
}

export function createBootServer(): HttpServer {
  const server = createServer(HTTP_OPTIONS)
  server.setTimeout(IDLE_TIMEOUT_MS)
  server.maxConnections = CONNECTIONS_MAX
  followSockets(server)
  return server
}

/** Agents speak TLS 1.3 (PROTOCOL.md §1), and nothing else comes here. */
export function createAgentServer(key: ServerKey): TlsServer {
  const server = createTlsServer({
    ...HTTP_OPTIONS,
    key: key.keyPem,
    cert: key.certPem,
    minVersion: 'TLSv1.3',
    handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS,
  })
  server.setTimeout(IDLE_TIMEOUT_MS)
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
  socketsByServer.set(server, sockets)
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
}
