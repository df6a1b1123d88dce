/**
 * The main thread's part of a connection: takes the requests its worker could not answer, makes them
 * to the cold device, and hands the answers to the reply worker. It takes no more than there is
 * memory for; the rest stays in the ring.
 */
import type { ColdDevice } from './block-device.ts'
import { callCold, needsMemory } from './cold-call.ts'
import { type ColdChannel, type ColdRequest, IN_FLIGHT_MAX } from './cold-channel.ts'
import { ColdMemory, type MemoryRange } from './cold-memory.ts'
import { ERRNO } from './nbd-errno.ts'
import { COMMAND } from './protocol.ts'

const NO_BYTES = new Uint8Array(0)

export interface ColdServerParts {
  readonly channel: ColdChannel
  readonly device: ColdDevice
  /** What reads fill and writes are copied to. */
  readonly memory: SharedArrayBuffer
  /** Where the transmission worker puts the payload of a write. */
  readonly payload: SharedArrayBuffer
}

export class ColdServer {
  readonly #channel: ColdChannel
  readonly #device: ColdDevice
  readonly #bytes: Uint8Array
  readonly #payload: Uint8Array
  readonly #memory: ColdMemory
  /** Ranges of the answers that are not sent yet, in the order of the answers. */
  readonly #answered: (MemoryRange | undefined)[] = []
  #answersReleased = 0
  #inFlight = 0

  constructor({ channel, device, memory, payload }: ColdServerParts) {
    this.#channel = channel
    this.#device = device
    // A Buffer: devices copy out of shared memory twice as fast into one.
    this.#bytes = Buffer.from(memory)
    this.#payload = new Uint8Array(payload)
    this.#memory = new ColdMemory(memory.byteLength)
  }

  /** Serves until the channel is closed. What the device still works on then is forgotten. */
  async run(): Promise<void> {
    const channel = this.#channel
    let waitsForAnswers = false
    for (;;) {
      const seen = channel.doorbell
      if (channel.closed) return
      const stuck = !this.#takeAll()
      if (stuck !== waitsForAnswers) {
        channel.setMainWaits(stuck)
        waitsForAnswers = stuck
        // What was sent before the flag was seen rang no bell.
        if (stuck) continue
      }
      await channel.waitForDoorbell(seen)
    }
  }

  /** Returns false when requests are left for which there is no room. */
  #takeAll(): boolean {
    this.#releaseSent()
    for (;;) {
      const request = this.#channel.firstRequest()
      if (request === undefined) return true
      if (this.#inFlight === IN_FLIGHT_MAX) return false
      const range = needsMemory(request) ? this.#memory.take(request.length) : undefined
      if (range === undefined && needsMemory(request)) return false
      this.#start(request, range)
    }
  }

  #start(request: ColdRequest, range: MemoryRange | undefined): void {
    const bytes = range ? this.#bytes.subarray(range.at, range.at + request.length) : NO_BYTES
    if (request.type === COMMAND.write) bytes.set(this.#payload.subarray(0, request.length))
    this.#channel.takeRequest()
    this.#inFlight += 1
    void callCold(this.#device, request, bytes).then((errno) => this.#answer(request, range, errno))
  }

  #answer(request: ColdRequest, range: MemoryRange | undefined, errno: number): void {
    if (this.#channel.closed) return
    const { type, cookieHigh, cookieLow, offset } = request
    const length = type === COMMAND.read && errno === ERRNO.none ? request.length : 0
    const memoryAt = range?.at ?? 0
    this.#answered.push(range)
    this.#channel.pushAnswer({ type, errno, cookieHigh, cookieLow, offset, memoryAt, length })
  }

  #releaseSent(): void {
    const sent = this.#channel.answersSent
    for (
      ;
      this.#answersReleased !== sent;
      this.#answersReleased = (this.#answersReleased + 1) | 0
    ) {
      const range = this.#answered.shift()
      if (range !== undefined) this.#memory.giveBack(range)
      this.#inFlight -= 1
    }
  }
}
