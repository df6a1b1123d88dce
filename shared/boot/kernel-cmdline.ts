/**
 * The `bootwire.*` kernel parameters: what the boot script tells the agent. One table renders them
 * on the server and parses them on the client.
 */
import { BootwireError } from '#shared/errors.ts'

export interface BootParameters {
  /** Servers to try in this order: host or address, and the TLS port. */
  readonly servers: readonly ServerAddress[]
  /** SHA-256 of the server key's SubjectPublicKeyInfo, base64url without padding (43 characters). */
  readonly pin: string
  /** Id of the kernel the boot script loaded (see `Opened.kernel.id`). */
  readonly kernelId?: string
  /** Id of this boot, given by the boot script so that the server's timeline begins before the agent. */
  readonly bootId?: string
  /** Set across kexec: the vDisk that was chosen already, so that nobody is asked twice. */
  readonly vdisk?: string
  /** What a technician's stick brings along: admits this machine. */
  readonly joinToken?: string
  /** A technician asked for the screen with every link of the way to the server. */
  readonly isCheck?: boolean
  /** Bytes of the agent's RAM tier. */
  readonly ramCacheBytes?: number
  /** Bytes a day that may be written to the cache on the client's disk; 0 for none. */
  readonly cacheBudgetBytes?: number
}

export interface ServerAddress {
  readonly host: string
  readonly port: number
}

const PIN = /^[A-Za-z0-9_-]{43}$/
const JOIN_TOKEN = /^bwj_[A-Za-z0-9_-]{43}$/
const BYTES = /^[0-9]{1,15}$/
const ID = /^[0-9a-f]{8,64}$/

export function renderBootParameters(parameters: BootParameters): string {
  const words = [
    `bootwire.servers=${parameters.servers.map(formatAddress).join(',')}`,
    `bootwire.pin=${parameters.pin}`,
  ]
  if (parameters.kernelId !== undefined) words.push(`bootwire.kernel=${parameters.kernelId}`)
  if (parameters.bootId !== undefined) words.push(`bootwire.boot=${parameters.bootId}`)
  if (parameters.vdisk !== undefined) words.push(`bootwire.vdisk=${parameters.vdisk}`)
  if (parameters.joinToken !== undefined) words.push(`bootwire.join=${parameters.joinToken}`)
  if (parameters.ramCacheBytes !== undefined) {
    words.push(`bootwire.ram-cache=${parameters.ramCacheBytes}`)
  }
  if (parameters.cacheBudgetBytes !== undefined) {
    words.push(`bootwire.cache-budget=${parameters.cacheBudgetBytes}`)
  }
  return words.join(' ')
}

/**
 * Reads the parameters out of a whole kernel command line; the last of equal keys counts. Unknown
 * `bootwire.*` keys are left alone, so that an older agent starts under a newer server.
 * @throws {BootwireError} BAD_KERNEL_PARAMETER
 */
export function parseBootParameters(cmdline: string): BootParameters {
  const values = kernelParameters(cmdline)
  const kernelId = optional(values, 'bootwire.kernel', ID, 'a hash in hex')
  const bootId = optional(values, 'bootwire.boot', ID, 'an id in hex')
  const vdisk = values.get('bootwire.vdisk')
  const joinToken = optional(values, 'bootwire.join', JOIN_TOKEN, 'a join token')
  const ramCache = optional(values, 'bootwire.ram-cache', BYTES, 'a number of bytes')
  const cacheBudget = optional(values, 'bootwire.cache-budget', BYTES, 'a number of bytes')
  return {
    servers: required(values, 'bootwire.servers').split(',').map(parseAddress),
    pin: matched(
      'bootwire.pin',
      required(values, 'bootwire.pin'),
      PIN,
      '43 characters of base64url',
    ),
    ...(kernelId !== undefined && { kernelId }),
    ...(bootId !== undefined && { bootId }),
    ...(vdisk !== undefined && { vdisk }),
    ...(joinToken !== undefined && { joinToken }),
    ...(values.has('bootwire.check') && { isCheck: true }),
    ...(ramCache !== undefined && { ramCacheBytes: Number(ramCache) }),
    ...(cacheBudget !== undefined && { cacheBudgetBytes: Number(cacheBudget) }),
  }
}

/** Splits a kernel command line into its key=value words; a word without "=" has the value "". */
export function kernelParameters(cmdline: string): Map<string, string> {
  const values = new Map<string, string>()
  for (const [word] of cmdline.matchAll(/\S+/g)) {
    const equals = word.indexOf('=')
    if (equals < 0) values.set(word, '')
    else values.set(word.slice(0, equals), word.slice(equals + 1))
  }
  return values
}

function formatAddress({ host, port }: ServerAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function parseAddress(text: string): ServerAddress {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || port < 1 || port > 65_535) {
    throw bad('bootwire.servers', text, 'HOST:PORT, several separated by commas')
  }
  return { host, port }
}

function required(values: ReadonlyMap<string, string>, key: string): string {
  const value = values.get(key)
  if (value === undefined) {
    throw new BootwireError(
      'BAD_KERNEL_PARAMETER',
      `Cannot start: the kernel parameter ${key}= is missing`,
    )
  }
  return value
}

function optional(
  values: ReadonlyMap<string, string>,
  key: string,
  pattern: RegExp,
  expected: string,
): string | undefined {
  const value = values.get(key)
  return value === undefined ? undefined : matched(key, value, pattern, expected)
}

function matched(key: string, value: string, pattern: RegExp, expected: string): string {
  if (!pattern.test(value)) throw bad(key, value, expected)
  return value
}

function bad(key: string, value: string, expected: string): BootwireError {
  return new BootwireError(
    'BAD_KERNEL_PARAMETER',
    `Cannot use kernel parameter ${key}=${value}: expected ${expected}`,
  )
}
