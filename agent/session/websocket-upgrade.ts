/** The opening handshake of a websocket over a connection that is there (RFC 6455 §4.1). */
import { createHash, randomBytes } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError } from '#shared/errors.ts'
import { nameOf, notBootwire } from '#shared/tls/pinned-tls.ts'
import { KiB } from '#shared/units.ts'
import { AGENT_PATH } from '#shared/wire/limits.ts'

/** An answer to the upgrade request is a few hundred bytes. */
const ANSWER_BYTES_MAX: number = 8 * KiB

/** RFC 6455 §1.3. */
const ACCEPT_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

const END_OF_HEAD = '\r\n\r\n'

export class WebsocketUpgrade {
  readonly #socket: TLSSocket
  readonly #server: ServerAddress
  readonly #timeoutMs: number
  readonly #key = randomBytes(16).toString('base64')
  readonly #done = Promise.withResolvers<void>()
  #received = Buffer.alloc(0)

  constructor(socket: TLSSocket, server: ServerAddress, timeoutMs: number) {
    this.#socket = socket
    this.#server = server
    this.#timeoutMs = timeoutMs
  }

  /**
   * Asks, and returns when the server has agreed.
   * @throws {BootwireError} SERVER_NOT_BOOTWIRE, LIMIT_EXCEEDED; the connection is closed then
   * @throws what the signal was aborted with
   */
  async run(signal: AbortSignal): Promise<void> {
    const onClose = () => this.#fail('it closed the connection')
    const onAbort = () => this.#done.reject(signal.reason)
    const timer = setTimeout(
      () => this.#fail(`it does not answer within ${this.#timeoutMs / 1000} s`),
      this.#timeoutMs,
    )
    this.#socket.once('close', onClose)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    if (this.#socket.destroyed) onClose()
    try {
      this.#socket.write(this.#request())
      await this.#done.promise
    } catch (error) {
      this.#socket.destroy()
      throw error
    } finally {
      clearTimeout(timer)
      this.#socket.off('close', onClose)
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Takes what was read. Returns what follows the server's answer, once that is whole and good. */
  push(bytes: Uint8Array): Uint8Array | undefined {
    this.#received = Buffer.concat([this.#received, bytes])
    const end = this.#received.indexOf(END_OF_HEAD)
    if (end < 0) {
      if (this.#received.length > ANSWER_BYTES_MAX) this.#fail('its answer has no end')
      return undefined
    }
    const error = this.#checkAnswer(this.#received.toString('latin1', 0, end))
    if (error !== undefined) {
      this.#done.reject(error)
      return undefined
    }
    this.#done.resolve()
    return this.#received.subarray(end + END_OF_HEAD.length)
  }

  #request(): string {
    return [
      `GET ${AGENT_PATH} HTTP/1.1`,
      `Host: ${nameOf(this.#server)}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      `Sec-WebSocket-Key: ${this.#key}`,
    ]
      .join('\r\n')
      .concat(END_OF_HEAD)
  }

  #checkAnswer(head: string): BootwireError | undefined {
    const [status = '', ...lines] = head.split('\r\n')
    if (status.startsWith('HTTP/1.1 503 ')) {
      return new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot connect to ${nameOf(this.#server)}: it has too many connections`,
      )
    }
    const expected = createHash('sha1')
      .update(this.#key + ACCEPT_SUFFIX)
      .digest('base64')
    const isAccepted = lines.some(
      (line) => /^sec-websocket-accept: *(\S+)/i.exec(line)?.[1] === expected,
    )
    if (status.startsWith('HTTP/1.1 101 ') && isAccepted) return undefined
    return notBootwire(this.#server, `it answered "${status.slice(0, 80)}"`)
  }

  #fail(why: string): void {
    this.#done.reject(notBootwire(this.#server, why))
  }
}
