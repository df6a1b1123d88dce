/**
 * What is on its way here that nobody waits for, pushed or asked for, and how much more may be. It is
 * counted in this one place: each `send` ends with `arrived` or `dropped`, with the connection, or,
 * when a server breaks its word, with a sweep.
 */
import { invariant } from '#shared/invariant.ts'
import { PathWindow } from './path-window.ts'

/** What no server of ours needs; then it is no longer counted on. */
const SWEEPS_MAX = 12

/** An object on its way. */
export interface Sent {
  /** As far as it is known. */
  readonly bytes: number
  /** When it was asked for; undefined for what the server sent by itself. */
  readonly atMs: number | undefined
  /** Bytes that were on their way before it. */
  readonly aheadBytes: number
  readonly sweep: number
}

export class PathLoad {
  readonly window: PathWindow
  readonly #sent = new Set<Sent>()
  #bytes = 0
  #sweep = 0

  /** `window` is only given by tests. */
  constructor(window: PathWindow = new PathWindow()) {
    this.window = window
  }

  get isEmpty(): boolean {
    return this.#sent.size === 0
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Bytes that may be sent besides; less than none after the window has shrunk. */
  roomBytes(nowMs: number): number {
    return this.window.bytesAt(nowMs) - this.#bytes
  }

  /** One object may always be on its way, however large it is. */
  hasRoom(bytes: number, nowMs: number): boolean {
    return this.isEmpty || bytes <= this.roomBytes(nowMs)
  }

  send(bytes: number, atMs: number | undefined): Sent {
    // A sum of fractions would not come back to 0.
    invariant(Number.isSafeInteger(bytes), `${bytes} bytes on their way`)
    const sent = { bytes, atMs, aheadBytes: this.#bytes, sweep: this.#sweep }
    this.#sent.add(sent)
    this.#bytes += bytes
    return sent
  }

  /** It came, with so many bytes. */
  arrived(sent: Sent, bytes: number, nowMs: number): void {
    if (!this.#end(sent)) return
    const { atMs, aheadBytes } = sent
    if (atMs === undefined) this.window.arrivedUnasked(bytes)
    else this.window.arrived(bytes, { atMs, aheadBytes }, nowMs)
  }

  /** It will not come, or came in a way that tells nothing about the path. */
  dropped(sent: Sent): void {
    this.#end(sent)
  }

  /** Another connection: nothing is on its way, and nothing known of the path. */
  reset(): void {
    this.#sent.clear()
    this.#bytes = 0
    this.window.reset()
  }

  /** Called now and then: what did not come since so many times never will. */
  sweep(): void {
    this.#sweep += 1
    for (const sent of this.#sent) if (this.#sweep - sent.sweep > SWEEPS_MAX) this.#end(sent)
  }

  #end(sent: Sent): boolean {
    if (!this.#sent.delete(sent)) return false
    this.#bytes -= sent.bytes
    return true
  }
}
