/**
 * Reads the keys of one console while a screen is up; afterwards what is typed is somebody else's.
 * The terminal is in raw mode already (`terminal-mode.ts`) and never becomes the controlling one, so
 * that no key is a signal. A console that fails has no keys until the next screen.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { ReadStream } from 'node:tty'
import { type Key, KeyDecoder } from './keys.ts'

/** The rest of a key's sequence comes within this, also over a serial line behind a network. */
const ESCAPE_TIMEOUT_MS = 100

const FLAGS = constants.O_RDONLY | constants.O_NOCTTY | constants.O_NONBLOCK

export class ConsoleInput implements Disposable {
  readonly #decoder = new KeyDecoder()
  readonly #onKey: (key: Key) => void
  readonly #stream: ReadStream | undefined
  #escapeTimer: NodeJS.Timeout | undefined

  constructor(path: string, onKey: (key: Key) => void) {
    this.#onKey = onKey
    this.#stream = tryRead(path)
    this.#stream?.on('data', (bytes: Buffer) => {
      this.#receive(bytes)
    })
    this.#stream?.on('error', () => this[Symbol.dispose]())
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#escapeTimer)
    this.#stream?.destroy()
  }

  #receive(bytes: Buffer): void {
    clearTimeout(this.#escapeTimer)
    this.#report(this.#decoder.push(bytes))
    if (!this.#decoder.isWaiting || this.#stream?.destroyed === true) return
    this.#escapeTimer = setTimeout(() => {
      this.#report(this.#decoder.flush())
    }, ESCAPE_TIMEOUT_MS)
  }

  /** A key may close the screen; those behind it are not for it. */
  #report(keys: readonly Key[]): void {
    for (const key of keys) if (this.#stream?.destroyed === false) this.#onKey(key)
  }
}

function tryRead(path: string): ReadStream | undefined {
  let descriptor: number | undefined
  try {
    descriptor = openSync(path, FLAGS)
    const stream = new ReadStream(descriptor)
    if (isOtherDescriptor(stream, descriptor)) closeSync(descriptor)
    return stream
  } catch {
    if (descriptor !== undefined) closeSync(descriptor)
    return undefined
  }
}

/**
 * libuv opens the terminal once more, by its name, and closes only that descriptor in the end. Where
 * it could not it uses the one it was given. Which one it has is in the internal handle alone.
 */
function isOtherDescriptor(stream: ReadStream, descriptor: number): boolean {
  const handle: unknown = Reflect.get(stream, '_handle')
  const used: unknown =
    typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined
  return typeof used === 'number' && used !== descriptor
}
