/** Fetches a file of the server over pinned TLS, as kernel and initramfs for kexec. */
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { BootwireError } from '#shared/errors.ts'
import { connectPinned, nameOf, type PinnedTlsOptions } from './pinned-tls.ts'

/**
 * Appends the file at `path` of the server to a local one.
 * @throws {BootwireError} as `connectPinned`; SERVER_UNREACHABLE when it breaks off; NOT_FOUND
 */
export async function appendDownload(
  options: PinnedTlsOptions & { readonly path: string },
  localPath: string,
): Promise<void> {
  const { server, path, signal } = options
  const socket = await connectPinned(options)
  try {
    const asked = request({
      path,
      headers: { host: nameOf(server), connection: 'close' },
      createConnection: () => socket,
      ...(signal && { signal }),
    })
    asked.end()
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    if (response.statusCode !== 200) {
      throw new BootwireError(
        'NOT_FOUND',
        `Cannot load ${path} from ${nameOf(server)}: it answers ${response.statusCode}`,
      )
    }
    await pipeline(response, createWriteStream(localPath, { flags: 'a' }), { signal })
  } catch (cause) {
    signal?.throwIfAborted()
    if (cause instanceof BootwireError) throw cause
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new BootwireError(
      'SERVER_UNREACHABLE',
      `Cannot load ${path} from ${nameOf(server)}: ${why}`,
      { cause },
    )
  } finally {
    socket.destroy()
  }
}
