/** One request, made to the cold device. */
import type { ColdDevice } from './block-device.ts'
import type { ColdRequest } from './cold-channel.ts'
import { ERRNO, errnoOf } from './nbd-errno.ts'
import { COMMAND, COMMAND_FLAG } from './protocol.ts'

/** Whether the request brings data or asks for some, and so needs memory of its length. */
export function needsMemory({ type }: ColdRequest): boolean {
  return type === COMMAND.read || type === COMMAND.write
}

/**
 * Returns the error number for the reply once the device is done; never rejects. `bytes` is what a
 * read fills and what a write brings.
 */
export async function callCold(
  device: ColdDevice,
  request: ColdRequest,
  bytes: Uint8Array,
): Promise<number> {
  try {
    await call(device, request, bytes)
    return ERRNO.none
  } catch (error) {
    return errnoOf(error)
  }
}

async function call(
  device: ColdDevice,
  { type, flags, offset, length }: ColdRequest,
  bytes: Uint8Array,
): Promise<void> {
  const fua = (flags & COMMAND_FLAG.fua) !== 0
  if (type === COMMAND.read) return device.read(offset, bytes)
  if (type === COMMAND.write) return device.write(offset, bytes, fua)
  if (type === COMMAND.flush) return device.flush()
  if (type === COMMAND.trim) return device.trim(offset, length, fua)
  const mayTrim = (flags & COMMAND_FLAG.noHole) === 0
  return device.writeZeroes(offset, length, mayTrim, fua)
}
