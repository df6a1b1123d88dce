/**
 * Writes a session's messages to its TLS stream one piece at a time. Node's streams would gather what
 * waits into one write, which TLS then copies into one new piece of memory; a piece alone is encrypted
 * from where it is.
 */
import type { Duplex } from 'node:stream'

interface Waiting {
  readonly messages: Uint8Array
  readonly sent: () => void
}

export class SessionWriter {
  readonly #stream: Duplex
  readonly #waiting: Waiting[] = []
  #waitingBytes = 0
  #writing: Waiting | undefined

  constructor(stream: Duplex) {
    this.#stream = stream
  }

  /** Bytes that the network layer has not taken yet. */
  get bufferedBytes(): number {
    return this.#waitingBytes
  }

  write(messages: Uint8Array, sent: () => void): void {
    this.#waitingBytes += messages.length
    this.#waiting.push({ messages, sent })
    if (this.#writing === undefined) this.#writeNext()
  }

  /** Hands over all that waits, so that somebody else may write to the stream behind it. */
  flush(): void {
    for (const waiting of this.#waiting.splice(0)) {
      this.#stream.write(waiting.messages, () => this.#done(waiting))
    }
  }

  #writeNext(): void {
    this.#writing = this.#waiting.shift()
    if (this.#writing !== undefined) this.#stream.write(this.#writing.messages, this.#written)
  }

  /** Also after a failure: `close` of the connection tells. */
  readonly #written = (): void => {
    const written = this.#writing
    if (written === undefined) return
    this.#writeNext()
    this.#done(written)
  }

  #done({ messages, sent }: Waiting): void {
    this.#waitingBytes -= messages.length
    sent()
  }
}
