/**
 * Names of vDisks and clients. One rule for both, since a client's name becomes its host name:
 * an RFC 1123 label in lower case. vDisk names may hold dots besides (`debian-12.7`).
 */
import { BootwireError } from '#shared/errors.ts'
import { NAME_LENGTH_MAX } from '#shared/wire/limits.ts'

const HOST_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/
const VDISK_NAME = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/

export function isHostName(text: string): boolean {
  return text.length <= NAME_LENGTH_MAX && HOST_NAME.test(text)
}

export function isVDiskName(text: string): boolean {
  return text.length <= NAME_LENGTH_MAX && VDISK_NAME.test(text)
}

/** @throws {BootwireError} INVALID_ARGUMENT */
export function assertHostName(text: string): void {
  if (!isHostName(text)) throw invalidName('client', text, 'letters a-z, digits and "-"')
}

/** @throws {BootwireError} INVALID_ARGUMENT */
export function assertVDiskName(text: string): void {
  if (!isVDiskName(text)) throw invalidName('vDisk', text, 'letters a-z, digits, "-" and "."')
}

function invalidName(what: string, text: string, allowed: string): BootwireError {
  return new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use ${JSON.stringify(text)} as the name of a ${what}: expected 1 to ${NAME_LENGTH_MAX} of ${allowed}, not beginning or ending with a mark`,
  )
}
