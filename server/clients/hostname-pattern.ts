/**
 * How host names are made for new clients: text with `{n}`, the next free number, or `{mac}`, the
 * twelve digits of the MAC address the client booted from.
 */
import { BootwireError } from '#shared/errors.ts'
import { isHostName } from '#shared/names.ts'

export const DEFAULT_HOSTNAME_PATTERN = 'client-{n}'

/** The longest number `{n}` may become while the name still fits into a host name. */
const LONGEST_NUMBER = '9'.repeat(10)
const SAMPLE_MAC = '525400123456'

/** @throws {BootwireError} INVALID_ARGUMENT when not every name made from it is a host name of its own. */
export function assertHostnamePattern(pattern: string): void {
  const tells = pattern.includes('{n}') || pattern.includes('{mac}')
  const longest = `${fill(pattern, LONGEST_NUMBER, SAMPLE_MAC)}-${LONGEST_NUMBER}`
  if (tells && isHostName(longest)) return
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use --hostname-pattern "${pattern}": expected letters a-z, digits and "-" with {n} or {mac} in it, like "${DEFAULT_HOSTNAME_PATTERN}", short enough for a host name`,
  )
}

/**
 * Returns the host name of the client with this number. Where the number is not part of the name
 * (`{mac}` alone) and `taken` says that the name is given away, the number is appended.
 */
export function hostnameFor(
  pattern: string,
  number: number,
  mac: string | undefined,
  taken: boolean,
): string {
  const name = fill(pattern, String(number), mac?.replaceAll(':', '') ?? `unknown-${number}`)
  return taken && !pattern.includes('{n}') ? `${name}-${number}` : name
}

function fill(pattern: string, number: string, mac: string): string {
  return pattern.replaceAll('{n}', number).replaceAll('{mac}', mac)
}
