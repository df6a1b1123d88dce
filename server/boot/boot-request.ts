/** What a machine says in its request: facts of itself, and where it reached the server. */
import type { IncomingMessage } from 'node:http'
import type { BootFacts } from './boot-plan.ts'
import { deviceFromBusId } from './device-ids.ts'

export interface BootRequest {
  readonly facts: BootFacts
  /** The network card, as `BootFiles.hasDriver` takes it; undefined when it is unknown. */
  readonly device?: string
}

const MAC = /^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$/i
const UUID = /^[0-9a-f-]{1,64}$/i
const SERIAL = /^[\x20-\x7e]{1,128}$/
const BOOT_ID = /^[0-9a-f]{8,64}$/

const HOST_HEADER =
  /^(?:\[([0-9A-Fa-f:]{2,39})\]|([A-Za-z0-9][A-Za-z0-9.-]{0,252}))(?::[0-9]{1,5})?$/

/** Everything is optional; what is not as it must be counts as not said. */
export function parseBootRequest(query: URLSearchParams): BootRequest {
  const mac = matching(query, 'mac', MAC)
  const uuid = matching(query, 'uuid', UUID)
  const serial = matching(query, 'serial', SERIAL)
  const device = deviceFromBusId((query.get('bus') ?? '').toLowerCase())
  return {
    facts: {
      ...(mac !== undefined && { mac: mac.toLowerCase().replaceAll('-', ':') }),
      ...(uuid !== undefined && { uuid: uuid.toLowerCase() }),
      ...(serial !== undefined && { serial }),
    },
    ...(device !== undefined && { device }),
  }
}

export function parseBootId(query: URLSearchParams): string | undefined {
  return matching(query, 'boot', BOOT_ID)
}

/**
 * Returns the name or address the machine reached this server at: it can reach it there again, which
 * is not sure of the socket's own address behind NAT. The socket's is what HTTP/1.0 is left with.
 */
export function reachedAt(request: IncomingMessage): string {
  const match = HOST_HEADER.exec(request.headers.host ?? '')
  const named = match?.[1]?.toLowerCase() ?? match?.[2]
  return named ?? request.socket.localAddress?.replace(/^::ffff:(?=[0-9.]+$)/, '') ?? 'localhost'
}

/** The same with its port, as `http://boot.example.org:8080`. */
export function reachedUrl(request: IncomingMessage): string {
  const { host = '' } = request.headers
  if (HOST_HEADER.test(host)) return `http://${host.toLowerCase()}`
  const address = reachedAt(request)
  const { localPort = 80 } = request.socket
  return `http://${address.includes(':') ? `[${address}]` : address}:${localPort}`
}

function matching(query: URLSearchParams, key: string, pattern: RegExp): string | undefined {
  const value = query.get(key)
  return value !== null && pattern.test(value) ? value : undefined
}
