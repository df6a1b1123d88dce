/** Requests of a capture (shared/capture/capture-protocol.ts) to the first server that can be reached. */
import { Agent, type IncomingMessage, request } from 'node:http'
import { buffer } from 'node:stream/consumers'
import * as v from 'valibot'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import {
  CAPTURE_PATH,
  type CaptureBegun,
  type CaptureRequest,
  type CaptureStatus,
  captureBegunSchema,
  captureStatusSchema,
  HASH_HEADER,
} from '#shared/capture/capture-protocol.ts'
import { BootwireError } from '#shared/errors.ts'
import type { Pins } from '#shared/identity/key-pin.ts'
import { connectPinned, nameOf } from '#shared/tls/pinned-tls.ts'

/** A server that writes a segment down and answers nothing for so long is gone. */
const SILENCE_MS = 30_000

interface Asked {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
}

export class CaptureClient implements Disposable {
  readonly #server: ServerAddress
  readonly #connections: Agent
  readonly #signal: AbortSignal
  #begun: CaptureBegun | undefined

  constructor(server: ServerAddress, pin: Pins, signal: AbortSignal) {
    this.#server = server
    this.#signal = signal
    this.#connections = new Agent({ keepAlive: true, maxSockets: 1 })
    Object.assign(this.#connections, {
      createConnection: (_: object, done: (error: Error | null, socket?: object) => void) => {
        connectPinned({ server, pin, signal }).then((socket) => done(null, socket), done)
      },
    })
  }

  /** Returns the code that is to be shown. */
  async begin(wish: CaptureRequest): Promise<string> {
    const answer = await this.#ask({ method: 'POST', path: '', body: json(wish) })
    this.#begun = v.parse(captureBegunSchema, JSON.parse(answer.toString()))
    return this.#begun.code
  }

  async status(): Promise<CaptureStatus> {
    return statusIn(await this.#ask({ method: 'GET', path: this.#path }))
  }

  /** Hashes of the segments that the server has. */
  async hashes(): Promise<Buffer> {
    return await this.#ask({ method: 'GET', path: `${this.#path}/segments` })
  }

  async send(index: number, packed: Uint8Array, hash: string): Promise<void> {
    const path = `${this.#path}/segments/${index}`
    await this.#ask({ method: 'PUT', path, body: packed, headers: { [HASH_HEADER]: hash } })
  }

  async finish(hash: string): Promise<CaptureStatus> {
    const path = `${this.#path}/finish`
    return statusIn(await this.#ask({ method: 'POST', path, body: json({ hash }) }))
  }

  [Symbol.dispose](): void {
    this.#connections.destroy()
  }

  get #path(): string {
    return `/${this.#begun?.id ?? ''}`
  }

  /** @throws {BootwireError} SERVER_UNREACHABLE when it may go better later; CAPTURE_REFUSED when not */
  async #ask({ method, path, headers = {}, body }: Asked): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const asked = request({
      method,
      path: `${CAPTURE_PATH}${path}`,
      agent: this.#connections,
      signal: this.#signal,
      timeout: SILENCE_MS,
      headers: {
        host: nameOf(this.#server),
        ...(this.#begun && { authorization: `Bearer ${this.#begun.token}` }),
        ...(body && { 'content-length': body.length }),
        ...headers,
      },
    })
    asked.once('response', resolve).once('error', reject)
    asked.once('timeout', () => asked.destroy(new Error(`no answer in ${SILENCE_MS / 1000} s`)))
    asked.end(body)
    try {
      const response = await promise
      const answer = await buffer(response)
      const { statusCode = 0 } = response
      if (statusCode === 200) return answer
      throw refused(this.#server, statusCode, answer.toString())
    } catch (cause) {
      this.#signal.throwIfAborted()
      if (cause instanceof BootwireError) throw cause
      const why = cause instanceof Error ? cause.message : String(cause)
      throw new BootwireError(
        'SERVER_UNREACHABLE',
        `Cannot reach ${nameOf(this.#server)}: ${why}`,
        { cause },
      )
    }
  }
}

/** What the server itself failed at may go better later. */
function refused(server: ServerAddress, status: number, answer: string): BootwireError {
  const isServerFailure = status >= 500 && status !== 507
  const code = isServerFailure ? 'SERVER_UNREACHABLE' : 'CAPTURE_REFUSED'
  return new BootwireError(code, `${nameOf(server)} answers ${status}: ${sentenceIn(answer)}`)
}

function sentenceIn(answer: string): string {
  try {
    const { error } = JSON.parse(answer) as { readonly error?: unknown }
    return typeof error === 'string' ? error : answer
  } catch {
    return answer.slice(0, 200)
  }
}

function statusIn(answer: Buffer): CaptureStatus {
  return v.parse(captureStatusSchema, JSON.parse(answer.toString()))
}

function json(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}
