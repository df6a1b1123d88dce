/** What there is to say of the cache on the local disk: for the server, and for who sits there. Pure. */
import { BootwireError, describeError } from '#shared/errors.ts'

export interface DiskCacheMessage {
  readonly level: 'info' | 'error'
  readonly text: string
}

/** `error` is one of opening it, or a sentence on what went wrong since. */
export function diskCacheProblem(error: BootwireError | string): DiskCacheMessage {
  const named = typeof error === 'string' ? new BootwireError('CACHE_FAILED', error) : error
  return { level: 'error', text: describeError(named) }
}

export function diskCopyMessage(vdisk: string, isComplete: boolean): DiskCacheMessage {
  const text = isComplete
    ? `All of ${vdisk} is on the local disk: this client runs without a server from now on`
    : `The local disk no longer has all of ${vdisk}; what is missing is fetched again`
  return { level: 'info', text }
}
