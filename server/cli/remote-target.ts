/** A server that is administered from afar, by what stands on the command line. */
import { readFileSync } from 'node:fs'
import { BootwireError } from '#shared/errors.ts'
import type { RemoteTarget } from './admin-client.ts'
import { callerPath } from './caller-path.ts'

export interface RemoteOptions {
  readonly server: string
  readonly pin: string | undefined
  readonly tokenFile: string | undefined
}

/** A SHA-256, base64url without padding. */
const PIN = /^[\w-]{43}$/

const TOKEN = /^bwa_[\w-]{43}$/

/** @throws {BootwireError} INVALID_ARGUMENT, UNAUTHENTICATED */
export function remoteTarget({ server, pin, tokenFile }: RemoteOptions): RemoteTarget {
  if (pin === undefined || !PIN.test(pin)) {
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot trust the server ${server}: expected --pin with the fingerprint that "bootwire key show" prints there`,
    )
  }
  if (tokenFile === undefined) {
    throw new BootwireError(
      'UNAUTHENTICATED',
      `Cannot administer the server ${server}: expected --token-file`,
    )
  }
  return { server: addressOf(server), pin, token: tokenIn(tokenFile) }
}

function addressOf(server: string) {
  const [, bracketed, name, port] = /^(?:\[([^\]]+)\]|([^:/[\]]+)):(\d{1,5})$/.exec(server) ?? []
  const host = bracketed ?? name
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot use --server ${server}: expected HOST:PORT, an IPv6 address in brackets`,
    )
  }
  return { host, port: Number(port) }
}

function tokenIn(path: string): string {
  const token = read(callerPath(path)).trim()
  if (TOKEN.test(token)) return token
  throw new BootwireError(
    'UNAUTHENTICATED',
    `Cannot use the token file "${path}": expected the line that "bootwire admin add" printed first`,
  )
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new BootwireError(
      'UNAUTHENTICATED',
      `Cannot read the token file "${path}": ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    )
  }
}
