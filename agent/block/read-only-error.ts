import { constants } from 'node:os'
import { NbdError } from '../node-nbd/block-device.ts'

/** Answer to every change of a device without a write cache. */
export function readOnlyError(): NbdError {
  return new NbdError(constants.errno.EPERM, 'Cannot write: the device is read-only')
}
