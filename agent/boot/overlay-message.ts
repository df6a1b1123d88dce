/** What the block layers notice, in words: for the server, and for whoever sits at the machine. Pure. */
import { BootwireError, describeError } from '#shared/errors.ts'
import { formatBytes } from '#shared/units.ts'
import type { OverlayNotice } from '../block/open-overlay.ts'

export interface OverlayMessage {
  readonly level: 'warning' | 'error'
  readonly text: string
  /** Whether the person at the machine can do something about it. */
  readonly isForScreen: boolean
}

export function overlayMessage(notice: OverlayNotice): OverlayMessage {
  if (notice.kind === 'objects-corrupt') {
    const { count, error } = notice.fault
    const text = `${count === 1 ? 'An object' : `${count} objects`} came damaged and will be asked for again; the last: ${describeError(error)}`
    return { level: 'error', text, isForScreen: false }
  }
  if (notice.kind === 'write-area-failed') {
    const why = notice.error instanceof Error ? notice.error.message : String(notice.error)
    const text = `The write area of the local disk gives no more room for what is written: ${why}`
    return { level: 'error', text, isForScreen: true }
  }
  if (notice.kind === 'write-back-failed') {
    const why = notice.error instanceof Error ? notice.error.message : String(notice.error)
    return { level: 'error', text: `What is written on the server: ${why}`, isForScreen: true }
  }
  const { percent, usedBytes, limitBytes } = notice
  const text = `The write cache is ${percent} % full: ${formatBytes(usedBytes)} of ${formatBytes(limitBytes)}`
  if (percent < 100) return { level: 'warning', text, isForScreen: true }
  // From here on whoever writes waits.
  const full = describeError(
    new BootwireError('WRITE_CACHE_FULL', `${text}; programs that write wait`),
  )
  return { level: 'error', text: full, isForScreen: true }
}
