/**
 * Keeps a connection to one of the servers up, for as long as the agent lives: goes from one server
 * to the next, waits a little longer after each failure, and finds out when the other end has gone
 * silent.
 *
 *     trying --(connected)--> up --(lost)--> waiting --(a pause)--> trying …
 *        '-------(failed)----------------------^
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError, type ErrorCode, isErrorCode } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { KeyMismatch, nameOf } from '#shared/tls/pinned-tls.ts'
import { retryPauseMs } from './retry-pause.ts'
import type { ServerTrust } from './server-trust.ts'
import type { SessionLimits } from './session-limits.ts'
import { type CloseReason, Websocket } from './websocket.ts'

export interface LinkHandler {
  /** A new connection: nothing was said on it yet. */
  onUp(): void
  /** `message` is only valid during the call. What it throws closes the connection. */
  onMessage(message: Uint8Array): void
  /** There is no connection, or the next one could not be made; it is being tried again. */
  onDown(error: BootwireError): void
}

export interface ServerLinkOptions {
  readonly servers: readonly ServerAddress[]
  readonly trust: ServerTrust
  readonly handler: LinkHandler
  readonly limits: SessionLimits
}

/** Parts of the ping interval: often enough to keep to all limits of silence. */
const WATCHES_PER_PING = 5

const CLOSE_NORMAL = 1000
const CLOSE_SUPERSEDED = 4000

/** What a close code means when the server says no more (PROTOCOL.md §1); all others: it is gone. */
const ERROR_OF_CLOSE_CODE: ReadonlyMap<number | undefined, ErrorCode> = new Map([
  [1002, 'MESSAGE_INVALID'],
  [1007, 'MESSAGE_INVALID'],
  [1009, 'MESSAGE_INVALID'],
  [1013, 'LIMIT_EXCEEDED'],
])

export class ServerLink {
  readonly #options: ServerLinkOptions
  readonly #stop = new AbortController()
  #serverIndex = 0
  #failures = 0
  #websocket: Websocket | undefined
  #upSinceMs = 0
  #isSettled = false
  #pingedAtMs = 0
  #ended: Promise<void> = Promise.resolve()

  constructor(options: ServerLinkOptions) {
    this.#options = options
  }

  /** The server that is connected to, or tried. */
  get server(): ServerAddress {
    const server = this.#options.servers[this.#serverIndex]
    invariant(server !== undefined, 'a server is named')
    return server
  }

  start(): void {
    this.#ended = this.#run()
  }

  /** The server has answered as it should: the next loss begins with short pauses. */
  settled(): void {
    this.#failures = 0
    this.#isSettled = true
  }

  /** What only the two ends of the connection that there is know; the same bytes as long as it lasts. */
  binding(): Uint8Array | undefined {
    return this.#websocket?.binding
  }

  /** Sends a message; drops it while there is no connection. */
  send(message: Uint8Array): void {
    this.#websocket?.send(message)
  }

  /** Gives the connection up; another one is made. */
  drop(error: BootwireError): void {
    this.#websocket?.destroy(error)
  }

  /**
   * Makes no further connection. Returns when the server has closed the one there is; after
   * `timeoutMs` this end closes it.
   */
  async end(timeoutMs: number): Promise<void> {
    this.#stop.abort()
    const timer = setTimeout(() => this.#websocket?.close(CLOSE_NORMAL, ''), timeoutMs)
    await this.#ended
    clearTimeout(timer)
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      const { error, code } = await this.#connectOnce()
      if (signal.aborted) return
      this.#options.handler.onDown(error)
      this.#serverIndex = (this.#serverIndex + 1) % this.#options.servers.length
      await sleep(this.#nextPauseMs(code), undefined, { signal }).catch(() => undefined)
    }
  }

  /** Returns why there is no connection, or no longer one. */
  async #connectOnce(): Promise<{ readonly error: BootwireError; readonly code?: number }> {
    const closed = Promise.withResolvers<CloseReason>()
    let websocket: Websocket
    try {
      websocket = await this.#connect(closed.resolve)
    } catch (error) {
      return { error: error instanceof BootwireError ? error : internal(error) }
    }
    const reason = await this.#keepUp(websocket, closed.promise)
    return { error: lossError(this.server, reason), ...(reason.code && { code: reason.code }) }
  }

  /** A server with an unknown key may be one that we know, with a new one. */
  async #connect(onClose: (reason: CloseReason) => void): Promise<Websocket> {
    const { trust } = this.#options
    try {
      return await this.#connectOnly(await trust.pins(), onClose)
    } catch (error) {
      if (!(error instanceof KeyMismatch)) throw error
      await trust.learn(this.server, error.found, this.#stop.signal)
      return await this.#connectOnly(await trust.pins(), onClose)
    }
  }

  async #connectOnly(
    pin: ReadonlySet<string>,
    onClose: (reason: CloseReason) => void,
  ): Promise<Websocket> {
    const { handler, limits } = this.#options
    const { signal } = this.#stop
    const timeoutMs = limits.connectTimeoutMs
    return await Websocket.connect(
      { server: this.server, pin, timeoutMs, signal },
      { onMessage: (message) => handler.onMessage(message), onClose },
    )
  }

  async #keepUp(websocket: Websocket, closed: Promise<CloseReason>): Promise<CloseReason> {
    const { handler, limits } = this.#options
    this.#websocket = websocket
    this.#isSettled = false
    this.#upSinceMs = performance.now()
    const watch = setInterval(
      () => this.#watch(websocket),
      limits.pingIntervalMs / WATCHES_PER_PING,
    )
    handler.onUp()
    try {
      return await closed
    } finally {
      clearInterval(watch)
      this.#websocket = undefined
    }
  }

  #watch(websocket: Websocket): void {
    const { pingIntervalMs, silenceTimeoutMs, answerTimeoutMs } = this.#options.limits
    const nowMs = performance.now()
    const silentMs = nowMs - websocket.lastHeardMs
    if (silentMs >= silenceTimeoutMs) {
      return this.#giveUp(websocket, `nothing came from it for ${silenceTimeoutMs / 1000} s`)
    }
    if (!this.#isSettled && nowMs - this.#upSinceMs >= answerTimeoutMs) {
      return this.#giveUp(websocket, `it did not answer for ${answerTimeoutMs / 1000} s`)
    }
    if (silentMs < pingIntervalMs || nowMs - this.#pingedAtMs < pingIntervalMs) return
    this.#pingedAtMs = nowMs
    websocket.ping()
  }

  #giveUp(websocket: Websocket, why: string): void {
    websocket.destroy(
      new BootwireError('SERVER_UNREACHABLE', `Lost ${nameOf(this.server)}: ${why}`),
    )
  }

  #nextPauseMs(code: number | undefined): number {
    if (code === CLOSE_SUPERSEDED) return this.#options.limits.supersededPauseMs
    this.#failures += 1
    return retryPauseMs(this.#failures - 1)
  }
}

/** A server says why it closes as `CODE: text`, where it has a code of ours. */
function lossError(server: ServerAddress, { code, text, error }: CloseReason): BootwireError {
  if (error instanceof BootwireError) return error
  if (error !== undefined) return internal(error)
  const [, errorCode, message = ''] = /^([A-Z_]+): (.*)$/s.exec(text) ?? []
  if (isErrorCode(errorCode)) return new BootwireError(errorCode, message)
  const why = text === '' ? `it closed the connection with code ${code}` : text
  return new BootwireError(
    ERROR_OF_CLOSE_CODE.get(code) ?? 'SERVER_UNREACHABLE',
    `Lost ${nameOf(server)}: ${why}`,
  )
}

function internal(cause: unknown): BootwireError {
  const text = cause instanceof Error ? cause.message : String(cause)
  return new BootwireError('INTERNAL', `The connection failed: ${text}`, { cause })
}
