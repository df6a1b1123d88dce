/**
 * Writes to one console and never waits for it. A serial line may be slow, stopped by its other end
 * or gone; then what it did not take is kept up to a limit, and behind that dropped.
 *
 * The descriptor is opened without making it the controlling terminal. It is closed by a hang-up
 * (getty makes one when it takes the terminal over, a pulled adapter too) and opened again with the
 * next write. It stays open in between: closing the last descriptor of a serial line would wait for
 * the line, and forget its settings.
 *
 * Not a `tty.WriteStream`, since that puts its descriptor into blocking mode.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { KiB } from '#shared/units.ts'

/** Several full screens. A line that has not taken that many is not being read. */
const PENDING_BYTES_MAX: number = 16 * KiB

/** Nothing says when a stopped line goes on: it is tried, at first often, then seldom. */
const RETRY_MIN_MS = 20
const RETRY_MAX_MS = 500

const FLAGS = constants.O_WRONLY | constants.O_NOCTTY | constants.O_NONBLOCK

const NOTHING: Buffer = Buffer.alloc(0)

export class ConsoleOutput implements Disposable {
  readonly path: string
  readonly #onDrained: (output: ConsoleOutput) => void
  #descriptor: number | undefined
  #pending = NOTHING
  #dropped = false
  #retryTimer: NodeJS.Timeout | undefined
  #retryMs = RETRY_MIN_MS
  #closed = false

  /** `onDrained` is called when the line goes on, or is back, after something was dropped. */
  constructor(path: string, onDrained: (output: ConsoleOutput) => void) {
    this.path = path
    this.#onDrained = onDrained
    this.#descriptor = tryOpen(path)
  }

  /** False when there is no such terminal, or not now. */
  get isOpen(): boolean {
    return this.#descriptor !== undefined
  }

  /** Writes the text behind what waits; drops it when too much waits. */
  append(text: string): void {
    const bytes = Buffer.from(text, 'latin1')
    if (this.#pending.length + bytes.length > PENDING_BYTES_MAX) this.#dropped = true
    else this.#write(Buffer.concat([this.#pending, bytes]))
  }

  /** Writes a text that makes all before it superfluous; what waits is forgotten. */
  replace(text: string): void {
    this.#dropped = false
    this.#write(Buffer.from(text, 'latin1'))
  }

  [Symbol.dispose](): void {
    this.#closed = true
    clearTimeout(this.#retryTimer)
    this.#close()
  }

  #write(bytes: Buffer): void {
    if (this.#closed) return
    this.#descriptor ??= tryOpen(this.path)
    this.#pending = bytes
    if (this.#retryTimer === undefined) this.#drain()
  }

  #drain(): void {
    let mayReopen = true
    while (this.#descriptor !== undefined && this.#pending.length > 0) {
      const outcome = tryWrite(this.#descriptor, this.#pending)
      if (outcome === 'full') {
        this.#retryLater()
        return
      }
      if (outcome === 'gone') {
        this.#close()
        if (mayReopen) this.#descriptor = tryOpen(this.path)
        mayReopen = false
      } else {
        this.#pending = this.#pending.subarray(outcome)
        this.#retryMs = RETRY_MIN_MS
      }
    }
    if (this.#descriptor === undefined) {
      // There is nobody to keep it for; who comes later sees the screen that is up then.
      this.#pending = NOTHING
      this.#dropped = true
    } else if (this.#dropped) {
      this.#dropped = false
      this.#onDrained(this)
    }
  }

  #retryLater(): void {
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = undefined
      this.#drain()
    }, this.#retryMs)
    this.#retryTimer.unref()
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS)
  }

  #close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor)
    this.#descriptor = undefined
  }
}

function tryOpen(path: string): number | undefined {
  try {
    return openSync(path, FLAGS)
  } catch {
    return undefined
  }
}

/** Returns the number of bytes taken, or why none was. */
function tryWrite(descriptor: number, bytes: Buffer): number | 'full' | 'gone' {
  try {
    const writtenBytes = writeSync(descriptor, bytes)
    return writtenBytes === 0 ? 'full' : writtenBytes
  } catch (error) {
    const isFull = error instanceof Error && 'code' in error && error.code === 'EAGAIN'
    return isFull ? 'full' : 'gone'
  }
}
