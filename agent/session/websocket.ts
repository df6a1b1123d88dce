/**
 * The agent's end of a websocket (RFC 6455) over pinned TLS: our own, because a client that
 * allocates a buffer per message halves the stream (full collections); this one reads into one
 * buffer and hands messages on from there. Binary messages only, as PROTOCOL.md §1 says.
 */
import { randomFillSync } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { BootwireError } from '#shared/errors.ts'
import { BINDING_BYTES, BINDING_LABEL } from '#shared/identity/device-key.ts'
import { connectPinned, type PinnedTlsOptions } from '#shared/tls/pinned-tls.ts'
import { KiB } from '#shared/units.ts'
import { MESSAGE_BYTES_MAX } from '#shared/wire/limits.ts'
import { FrameParser, MASK_BYTES, maskedFrame, OPCODE } from './websocket-frame.ts'
import { WebsocketUpgrade } from './websocket-upgrade.ts'

export interface WebsocketHandler {
  /**
   * One binary message; `message` is only valid during the call. What it throws closes the
   * connection.
   */
  onMessage(message: Uint8Array): void
  /** Called once, after `connect` has returned. */
  onClose(reason: CloseReason): void
}

export interface CloseReason {
  /** The server's close code; absent when the connection just ended. */
  readonly code?: number
  readonly text: string
  /** What this end found wrong. */
  readonly error?: unknown
}

export type WebsocketOptions = Pick<PinnedTlsOptions, 'server' | 'pin'> & {
  /** For TCP and TLS, and for the upgrade. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/** TLS records hold 16 KiB; four of them per call are enough to be fast. */
const READ_BYTES: number = 64 * KiB

const CLOSE_NORMAL = 1000
const CLOSE_PROTOCOL_ERROR = 1002
/** A control frame holds 125 bytes, two of them for the code (RFC 6455 §5.5). */
const CLOSE_TEXT_BYTES_MAX = 123

/** How long the server may take to answer our close frame. */
const CLOSE_TIMEOUT_MS = 2_000

const NOTHING = new Uint8Array()
/** RFC 8446 §7.5: none, and an empty one, are the same. */
const NO_CONTEXT = Buffer.alloc(0)

export class Websocket {
  readonly #socket: TLSSocket
  readonly #handler: WebsocketHandler
  readonly #parser: FrameParser
  readonly #mask = Buffer.alloc(MASK_BYTES)
  #lastHeardMs = performance.now()
  #binding: Uint8Array | undefined
  #isCorked = false
  #isClosing = false
  #isClosed = false

  private constructor(socket: TLSSocket, handler: WebsocketHandler) {
    this.#socket = socket
    this.#handler = handler
    this.#parser = new FrameParser(MESSAGE_BYTES_MAX, (opcode, payload) => {
      this.#take(opcode, payload)
    })
  }

  /**
   * Connects and upgrades.
   * @throws {BootwireError} SERVER_UNREACHABLE, SERVER_NOT_BOOTWIRE, KEY_MISMATCH, LIMIT_EXCEEDED
   * @throws what the signal was aborted with
   */
  static async connect(options: WebsocketOptions, handler: WebsocketHandler): Promise<Websocket> {
    let receive: (bytes: Uint8Array) => void = () => undefined
    const onread = {
      buffer: Buffer.allocUnsafeSlow(READ_BYTES),
      callback: (count: number, buffer: Uint8Array) => {
        receive(buffer.subarray(0, count))
        return true
      },
    }
    const socket = await connectPinned({ ...options, onread })
    socket.on('error', () => undefined) // `close` follows
    const websocket = new Websocket(socket, handler)
    const upgrade = new WebsocketUpgrade(socket, options.server, options.timeoutMs)
    receive = (bytes) => {
      const rest = upgrade.push(bytes)
      if (rest === undefined) return
      receive = (more) => websocket.#receive(more)
      receive(rest)
    }
    await upgrade.run(options.signal)
    const onSocketClose = () => websocket.#end({ text: 'the connection ended' })
    if (socket.destroyed) process.nextTick(onSocketClose)
    else socket.once('close', onSocketClose)
    return websocket
  }

  /** BINDING_BYTES that only the two ends of this TLS connection know (RFC 5705). */
  get binding(): Uint8Array {
    this.#binding ??= this.#socket.exportKeyingMaterial(BINDING_BYTES, BINDING_LABEL, NO_CONTEXT)
    return this.#binding
  }

  /** `performance.now()` of when anything last came. */
  get lastHeardMs(): number {
    return this.#lastHeardMs
  }

  /** Sends one binary message, together with what else is sent in this turn. */
  send(message: Uint8Array): void {
    this.#sendFrame(OPCODE.binary, message)
  }

  ping(): void {
    this.#sendFrame(OPCODE.ping, NOTHING)
  }

  /** Says goodbye; `onClose` follows, at the latest after CLOSE_TIMEOUT_MS. */
  close(code: number, text: string): void {
    if (this.#isClosing || this.#isClosed) return
    this.#sendClose(code, text)
    setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT_MS).unref()
  }

  /** Cuts the connection; `onClose` is told why. */
  destroy(error: BootwireError): void {
    this.#end({ text: error.message, error })
    this.#socket.destroy()
  }

  #receive(bytes: Uint8Array): void {
    this.#lastHeardMs = performance.now()
    if (this.#isClosed) return
    try {
      this.#parser.push(bytes)
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      this.#sendClose(CLOSE_PROTOCOL_ERROR, text)
      this.#end({ text, error })
    }
  }

  #take(opcode: number, payload: Uint8Array): void {
    if (this.#isClosed) return
    switch (opcode) {
      case OPCODE.binary:
        return this.#handler.onMessage(payload)
      case OPCODE.ping:
        return this.#sendFrame(OPCODE.pong, payload)
      case OPCODE.pong:
        return
      case OPCODE.close:
        return this.#closedByServer(Buffer.from(payload))
      default:
        throw new BootwireError(
          'MESSAGE_INVALID',
          `Cannot use a websocket message with opcode ${opcode}: expected binary`,
        )
    }
  }

  #closedByServer(payload: Buffer): void {
    const code = payload.length >= 2 ? payload.readUInt16BE(0) : CLOSE_NORMAL
    if (!this.#isClosing) this.#sendClose(code, '')
    this.#end({ code, text: payload.toString('utf8', 2) })
  }

  #end(reason: CloseReason): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#socket.destroySoon()
    // A server that is stuck does not take what is left to send.
    setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT_MS).unref()
    this.#handler.onClose(reason)
  }

  #sendClose(code: number, text: string): void {
    this.#isClosing = true
    this.#sendFrame(OPCODE.close, Buffer.concat([Buffer.of(code >> 8, code & 0xff), cut(text)]))
  }

  #sendFrame(opcode: number, payload: Uint8Array): void {
    if (this.#isClosed || this.#socket.destroyed) return
    this.#cork()
    this.#socket.write(maskedFrame(opcode, payload, randomFillSync(this.#mask)))
  }

  /** Requests that are made together leave together: one TLS record, one packet. */
  #cork(): void {
    if (this.#isCorked) return
    this.#isCorked = true
    this.#socket.cork()
    process.nextTick(() => {
      this.#isCorked = false
      this.#socket.uncork()
    })
  }
}

/** What a close frame has room for, never the half of a character: that would be its own mistake. */
function cut(text: string): Buffer {
  const bytes = Buffer.from(text).subarray(0, CLOSE_TEXT_BYTES_MAX)
  return Buffer.from(new TextDecoder().decode(bytes, { stream: true }))
}
