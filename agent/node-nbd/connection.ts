/**
 * One connection in its transmission phase, as the main thread sees it: a transmission worker, and
 * for exports with a cold device a reply worker and the cold server between them.
 *
 * The end always begins with the transmission worker: the client disconnects or hangs up. Node has
 * no shutdown(2) for both directions and no way to interrupt a read, so `close` ends our direction
 * and the client, which reads the end of the stream, hangs up in turn. Every client does so, the
 * kernel's included.
 */
import type { Export } from './block-device.ts'
import { ColdChannel, createColdChannel } from './cold-channel.ts'
import { ColdServer } from './cold-server.ts'
import { exportFacts, type Negotiated } from './export-facts.ts'
import type { ReplyTask, TransmissionEnd, TransmissionTask } from './transmission-task.ts'
import type { WorkerPool } from './worker-pool.ts'

/** How the connection ended; an error is one of ours or of the device's, or of the client's protocol. */
export type ConnectionEnd = TransmissionEnd | Error

export interface NbdConnection {
  /** Resolves after everything of the connection has ended and its descriptor is closed. */
  readonly closed: Promise<ConnectionEnd>
  /** Asks the client to hang up; resolves when it did. Reads that wait are never answered. */
  close(): Promise<void>
}

/** Memory for the data of cold requests, unless the longest one needs more: 64 reads of 128 KiB. */
const COLD_MEMORY_BYTES_MIN = 8 * 1024 * 1024

export interface ConnectionParts {
  readonly fd: number
  readonly export: Export
  readonly negotiated: Negotiated
  readonly early: Uint8Array
  readonly pools: { readonly transmission: WorkerPool; readonly reply: WorkerPool }
  /** Ends our direction of the socket; a writer that waits for the client fails at once. */
  readonly hangUp: () => void
  /** Closes the descriptor. */
  readonly release: () => void
}

export class WorkerConnection implements NbdConnection {
  readonly closed: Promise<ConnectionEnd>
  readonly #parts: ConnectionParts
  readonly #channelMemory = createColdChannel()
  readonly #channel = new ColdChannel(this.#channelMemory)
  readonly #payload: SharedArrayBuffer
  #failure: Error | undefined

  constructor(parts: ConnectionParts) {
    this.#parts = parts
    const { readOnly, maximumBlockBytes } = parts.export
    this.#payload = new SharedArrayBuffer(readOnly ? 0 : maximumBlockBytes)
    this.closed = this.#serve()
  }

  async close(): Promise<void> {
    this.#end()
    await this.closed
  }

  async #serve(): Promise<ConnectionEnd> {
    const cold = this.#serveCold().catch((error: unknown) => this.#fail(error))
    const end = await this.#transmit()
    this.#end()
    await cold
    this.#parts.release()
    return this.#failure ?? end
  }

  async #transmit(): Promise<ConnectionEnd> {
    const { fd, negotiated, early, pools } = this.#parts
    const { hot, cold } = this.#parts.export
    const task: TransmissionTask = {
      kind: 'serve',
      fd,
      early,
      facts: exportFacts(this.#parts.export),
      negotiated,
      hot,
      hasCold: cold !== undefined,
      channel: this.#channelMemory,
      payload: this.#payload,
    }
    try {
      return (await pools.transmission.run(task)) as TransmissionEnd
    } catch (error) {
      return asError(error)
    }
  }

  async #serveCold(): Promise<void> {
    const { fd, negotiated, pools } = this.#parts
    const { cold: device, maximumBlockBytes } = this.#parts.export
    if (device === undefined) return
    const channel = this.#channel
    const memory = new SharedArrayBuffer(Math.max(maximumBlockBytes, COLD_MEMORY_BYTES_MIN))
    const { structuredReplies } = negotiated
    const task: ReplyTask = { fd, structuredReplies, channel: this.#channelMemory, memory }
    const server = new ColdServer({ channel, device, memory, payload: this.#payload })
    // A reply worker that found the client gone sends nothing more: the transmission worker must not
    // wait for room that its answers would have made.
    const replies = pools.reply.run(task).then(() => this.#end())
    await Promise.all([replies, server.run()])
  }

  /** Something of ours broke: the client shall not wait for answers that never come. */
  #fail(error: unknown): void {
    this.#failure = asError(error)
    this.#end()
  }

  #end(): void {
    if (this.#channel.closed) return
    this.#channel.close()
    this.#parts.hangUp()
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
