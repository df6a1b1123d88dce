/** The transmission worker's way to the cold device: the ring to the main thread. */
import type { ColdChannel, ColdRequest } from './cold-channel.ts'
import { ConnectionGone } from './descriptor-io.ts'
import { COMMAND } from './protocol.ts'
import type { ColdPath } from './transmission.ts'

export class ColdSubmitter implements ColdPath {
  readonly #channel: ColdChannel
  readonly #beforeWait: () => void
  #unannounced = false

  /**
   * `beforeWait` sends what is pending and lets go of the device's memory: the main thread may need
   * that memory for the very request this thread is about to wait for.
   */
  constructor(channel: ColdChannel, beforeWait: () => void) {
    this.#channel = channel
    this.#beforeWait = beforeWait
  }

  /** @throws {ConnectionGone} when the connection is closed while it waits */
  submit(request: ColdRequest): void {
    this.#waitUntil(() => !this.#channel.requestsFull)
    this.#channel.pushRequest(request)
    this.#unannounced = true
    // The payload lies where the next one will be read to.
    if (request.type === COMMAND.write) this.#waitUntil(() => this.#channel.requestsEmpty)
  }

  /** Wakes the main thread when there is something for it. */
  announce(): void {
    if (!this.#unannounced) return
    this.#unannounced = false
    this.#channel.ringDoorbell()
  }

  #waitUntil(condition: () => boolean): void {
    if (condition()) return
    this.announce()
    this.#beforeWait()
    for (;;) {
      const seen = this.#channel.taken
      if (condition()) return
      if (this.#channel.closed) throw new ConnectionGone('the connection was closed')
      this.#channel.waitForTaken(seen)
    }
  }
}
