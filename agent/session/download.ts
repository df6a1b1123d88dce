/** Fetches a file of the server over pinned TLS, as kernel and initramfs for kexec. */
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { BootwireError, type ErrorCode } from '#shared/errors.ts'
import { connectPinned, nameOf, type PinnedTlsOptions } from '#shared/tls/pinned-tls.ts'
import { SESSION_LIMITS } from './session-limits.ts'

export interface DownloadOptions extends PinnedTlsOptions {
  readonly path: string
  /** Given up when nothing comes for so long. Default: as in SESSION_LIMITS. */
  readonly silenceTimeoutMs?: number
}

/**
 * Appends the file at `path` of the server to a local one.
 * @throws {BootwireError} as `connectPinned`; SERVER_UNREACHABLE when it breaks off or the server
 * fails; NOT_FOUND; CLIENT_MEMORY when there is no room for it
 */
export async function appendDownload(options: DownloadOptions, localPath: string): Promise<void> {
  const { server, path, silenceTimeoutMs = SESSION_LIMITS.silenceTimeoutMs, signal } = options
  const socket = await connectPinned(options)
  socket.setTimeout(silenceTimeoutMs, () => {
    socket.destroy(new Error(`nothing came for ${silenceTimeoutMs / 1000} s`))
  })
  let broken: Error | undefined
  try {
    const asked = request({
      path,
      headers: { host: nameOf(server), connection: 'close' },
      createConnection: () => socket,
      ...(signal && { signal }),
    })
    // Also after the response began, which only learns that it was cut off.
    asked.on('error', (error) => {
      broken = error
    })
    asked.end()
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    const { statusCode = 0 } = response
    if (statusCode !== 200) {
      const isServerFailure = statusCode >= 500
      const code = isServerFailure ? 'SERVER_UNREACHABLE' : 'NOT_FOUND'
      throw failed(options, code, `it answers ${statusCode}`)
    }
    await pipeline(response, createWriteStream(localPath, { flags: 'a' }), { signal })
  } catch (cause) {
    signal?.throwIfAborted()
    if (cause instanceof BootwireError) throw cause
    const error = broken ?? cause
    const why = error instanceof Error ? error.message : String(error)
    const isFull = cause instanceof Error && 'code' in cause && cause.code === 'ENOSPC'
    throw failed(options, isFull ? 'CLIENT_MEMORY' : 'SERVER_UNREACHABLE', why, error)
  } finally {
    socket.destroy()
  }
}

function failed(
  { path, server }: DownloadOptions,
  code: ErrorCode,
  why: string,
  cause?: unknown,
): BootwireError {
  return new BootwireError(code, `Cannot load ${path} from ${nameOf(server)}: ${why}`, { cause })
}
