/** Error numbers as they go over the wire: those of Linux, but only the few the protocol knows. */
import { NbdError } from './block-device.ts'

export const ERRNO = {
  none: 0,
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const

/** What clients know under another number. */
const SAME_AS = new Map<number, number>([
  [30, ERRNO.EPERM], // EROFS
  [27, ERRNO.ENOSPC], // EFBIG
  [122, ERRNO.ENOSPC], // EDQUOT
])

const KNOWN: ReadonlySet<number> = new Set(Object.values(ERRNO))

/** The number to answer with when a device threw, or rejected with, `error`. */
export function errnoOf(error: unknown): number {
  if (!(error instanceof NbdError) || error.errno === ERRNO.none) return ERRNO.EIO
  const errno = SAME_AS.get(error.errno) ?? error.errno
  return KNOWN.has(errno) ? errno : ERRNO.EIO
}
