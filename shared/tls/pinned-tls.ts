/**
 * TLS to a server that is trusted by its key alone (PROTOCOL.md §1): the pin is compared before a
 * byte is sent, and names and dates of the certificate mean nothing, since the clock of a client may
 * be years off.
 */
import { isIP, type OnReadOpts } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError } from '#shared/errors.ts'
import { formatPins, isPinned, type Pins, spkiPin } from '../identity/key-pin.ts'

/** TCP and TLS together: in the same building they take milliseconds. */
export const CONNECT_TIMEOUT_MS = 10_000

/** The system's keep-alive, for connections on which nobody pings (downloads). */
const KEEP_ALIVE_MS = 5_000

export interface PinnedTlsOptions {
  readonly server: ServerAddress
  /** SHA-256 of the server's SubjectPublicKeyInfo, base64url, or several of which each will do. */
  readonly pin: Pins
  /** Until TLS is up. Default: CONNECT_TIMEOUT_MS. */
  readonly timeoutMs?: number
  /** Aborts connecting; no longer of meaning afterwards. */
  readonly signal?: AbortSignal
  /** Receives into one buffer of the caller's instead of by `data` events. */
  readonly onread?: OnReadOpts
}

/**
 * Connects, and returns after the pin was found right.
 * @throws {BootwireError} SERVER_UNREACHABLE; SERVER_NOT_BOOTWIRE when it does not speak TLS 1.3;
 * KEY_MISMATCH
 * @throws what the signal was aborted with
 */
export async function connectPinned(options: PinnedTlsOptions): Promise<TLSSocket> {
  const { server, pin, timeoutMs = CONNECT_TIMEOUT_MS, signal, onread } = options
  signal?.throwIfAborted()
  const connection: ConnectionOptions & { readonly onread?: OnReadOpts } = {
    host: server.host,
    port: server.port,
    // An address is no name to be asked for (RFC 6066 §3).
    ...(isIP(server.host) === 0 && { servername: server.host }),
    minVersion: 'TLSv1.3',
    rejectUnauthorized: false,
    // Nobody's word is taken: without this, Node reads its 150 root certificates first.
    ca: [],
    ...(onread && { onread }),
  }
  const socket = connect(connection)
  socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS)
  try {
    await secured(socket, { server, timeoutMs, signal })
    checkPin(socket, server, pin)
    return socket
  } catch (error) {
    socket.on('error', ignoreError) // what comes after is of no interest
    socket.destroy()
    throw error
  }
}

async function secured(
  socket: TLSSocket,
  {
    server,
    timeoutMs,
    signal,
  }: {
    readonly server: ServerAddress
    readonly timeoutMs: number
    readonly signal: AbortSignal | undefined
  },
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onError = (error: NodeJS.ErrnoException) => reject(connectError(server, error))
  const onClose = () => reject(notBootwire(server, 'it closed the connection'))
  const onAbort = () => reject(signal?.reason as Error)
  const timer = setTimeout(() => {
    reject(unreachable(server, `no answer within ${timeoutMs / 1000} s`))
  }, timeoutMs)
  socket.once('secureConnect', resolve).once('error', onError).once('close', onClose)
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    await promise
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
    socket.off('error', onError).off('close', onClose)
  }
}

function checkPin(socket: TLSSocket, server: ServerAddress, pins: Pins): void {
  const certificate = socket.getPeerCertificate().raw as Buffer | undefined
  const found = certificate === undefined ? 'none' : spkiPin(certificate)
  if (!isPinned(pins, found)) throw new KeyMismatch(server, found, pins)
}

/** KEY_MISMATCH. */
export class KeyMismatch extends BootwireError {
  /** Pin of the key that the server has. */
  readonly found: string

  constructor(server: ServerAddress, found: string, expected: Pins) {
    const why = `its key is ${found}, expected ${formatPins(expected)}`
    super('KEY_MISMATCH', `Cannot trust ${nameOf(server)}: ${why}`)
    this.found = found
  }
}

/** The system's own errors say that nobody is there; all others, that somebody else is. */
function connectError(server: ServerAddress, error: NodeJS.ErrnoException): BootwireError {
  const isOfTls = error.code === 'EPROTO' || error.code?.startsWith('ERR_SSL') === true
  if (isOfTls) return notBootwire(server, 'it does not speak TLS 1.3', error)
  if (error.code === 'ECONNRESET') return notBootwire(server, 'it broke the connection off', error)
  return unreachable(server, error.message, error)
}

function unreachable(server: ServerAddress, why: string, cause?: unknown): BootwireError {
  return new BootwireError('SERVER_UNREACHABLE', `Cannot reach ${nameOf(server)}: ${why}`, {
    cause,
  })
}

export function notBootwire(server: ServerAddress, why: string, cause?: unknown): BootwireError {
  return new BootwireError('SERVER_NOT_BOOTWIRE', `Cannot use ${nameOf(server)}: ${why}`, { cause })
}

export function nameOf({ host, port }: ServerAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function ignoreError(): void {
  // The socket is being destroyed; who waits was told.
}
