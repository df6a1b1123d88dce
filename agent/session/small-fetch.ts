/** Reads a small text of a server over a connection of its own, which is closed. */
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import type { TLSSocket } from 'node:tls'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { nameOf, notBootwire } from '#shared/tls/pinned-tls.ts'
import { KiB } from '#shared/units.ts'
import { SESSION_LIMITS } from './session-limits.ts'

/** A chain of 64 keys has 20 KB. */
const TEXT_BYTES_MAX: number = 64 * KiB

/** @throws {BootwireError} SERVER_NOT_BOOTWIRE */
export async function fetchSmall(
  socket: TLSSocket,
  server: ServerAddress,
  path: string,
): Promise<string> {
  socket.setTimeout(SESSION_LIMITS.connectTimeoutMs, () => socket.destroy())
  try {
    const headers = { host: nameOf(server), connection: 'close' }
    const asked = request({ path, headers, createConnection: () => socket })
    asked.end()
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    let text = ''
    for await (const part of response) {
      text += String(part)
      if (text.length > TEXT_BYTES_MAX) throw new Error('it says too much')
    }
    return response.statusCode === 200 ? text : ''
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw notBootwire(server, `${path}: ${why}`, cause)
  } finally {
    socket.destroy()
  }
}
