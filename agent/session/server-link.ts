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
import { BootwireError, isErrorCode } from '#shared/errors.ts'
import { PING_INTERVAL_MS, SILENCE_TIMEOUT_MS } from '#shared/wire/limits.ts'
import { nameOf } from './pinned-tls.ts'
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
  readonly pin: string
  readonly handler: LinkHandler
}

/** Pauses before the next try. The first is short: most losses are of a moment. */
const PAUSES_MS = [250, 500, 1_000, 2_000, 4_000]
const PAUSE_MAX_MS = 5_000
/** Part of each pause that is left to chance, so that clients who lost a server together spread. */
const JITTER = 0.5

/** Often enough to keep to both limits of silence. */
const WATCH_INTERVAL_MS = 1_000

/**
 * Another connection of this client took over (close code 4000): it is the one that counts. This
 * agent asks again seldom, in case that one was a mistake and a root runs here.
 */
const SUPERSEDED_PAUSE_MS = 30_000
const CLOSE_SUPERSEDED = 4000
const CLOSE_NORMAL = 1000

export class ServerLink {
  readonly #options: ServerLinkOptions
  readonly #stop = new AbortController()
  #serverIndex = 0
  #failures = 0
  #websocket: Websocket | undefined
  #pingedAtMs = 0
  #ended: Promise<void> = Promise.resolve()

  constructor(options: ServerLinkOptions) {
    this.#options = options
  }

  /** The server that is connected to, or tried. */
  get server(): ServerAddress {
    const server = this.#options.servers[this.#serverIndex]
    if (server === undefined) throw new Error('no server is named')
    return server
  }

  start(): void {
    this.#ended = this.#run()
  }

  /** The server has answered as it should: the next loss begins with short pauses. */
  settled(): void {
    this.#failures = 0
  }

  /** Sends a message; drops it while there is no connection. */
  send(message: Uint8Array): void {
    this.#websocket?.send(message)
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
      const reason = await this.#connectOnce()
      if (signal.aborted) return
      this.#options.handler.onDown(reason.error)
      this.#serverIndex = (this.#serverIndex + 1) % this.#options.servers.length
      const pauseMs = reason.code === CLOSE_SUPERSEDED ? SUPERSEDED_PAUSE_MS : this.#nextPause()
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined)
    }
  }

  /** Returns why there is no connection, or no longer one. */
  async #connectOnce(): Promise<{ readonly error: BootwireError; readonly code?: number }> {
    const { pin, handler } = this.#options
    const closed = Promise.withResolvers<CloseReason>()
    let websocket: Websocket
    try {
      websocket = await Websocket.connect(
        { server: this.server, pin, signal: this.#stop.signal },
        { onMessage: (message) => handler.onMessage(message), onClose: closed.resolve },
      )
    } catch (error) {
      return { error: error instanceof BootwireError ? error : internal(error) }
    }
    this.#websocket = websocket
    const watch = setInterval(() => this.#watch(websocket), WATCH_INTERVAL_MS)
    handler.onUp()
    const reason = await closed.promise
    clearInterval(watch)
    this.#websocket = undefined
    return { error: lossError(this.server, reason), ...(reason.code && { code: reason.code }) }
  }

  #watch(websocket: Websocket): void {
    const nowMs = performance.now()
    const silentMs = nowMs - websocket.lastHeardMs
    if (silentMs >= SILENCE_TIMEOUT_MS) return websocket.destroy()
    if (silentMs < PING_INTERVAL_MS || nowMs - this.#pingedAtMs < PING_INTERVAL_MS) return
    this.#pingedAtMs = nowMs
    websocket.ping()
  }

  #nextPause(): number {
    const pauseMs = PAUSES_MS[this.#failures] ?? PAUSE_MAX_MS
    this.#failures += 1
    return pauseMs * (1 - JITTER * Math.random())
  }
}

/** A server says why it closes as `CODE: text`, where it has a code of ours. */
function lossError(server: ServerAddress, { code, text, error }: CloseReason): BootwireError {
  if (error instanceof BootwireError) return error
  if (error !== undefined) return internal(error)
  const [, errorCode, message = ''] = /^([A-Z_]+): (.*)$/s.exec(text) ?? []
  if (isErrorCode(errorCode)) return new BootwireError(errorCode, message)
  const why = text === '' ? `it closed the connection with code ${code}` : text
  return new BootwireError('SERVER_UNREACHABLE', `Lost ${nameOf(server)}: ${why}`)
}

function internal(cause: unknown): BootwireError {
  const text = cause instanceof Error ? cause.message : String(cause)
  return new BootwireError('INTERNAL', `The connection failed: ${text}`, { cause })
}
