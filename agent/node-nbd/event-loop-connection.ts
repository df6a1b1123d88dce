/**
 * A connection served by the event loop of this thread, by nothing but the public API of node:net:
 * for a Node in which `takeDescriptor` finds no descriptor, and where threads are not wanted. Short
 * replies are about as fast as those of a worker; long ones take twice the time, and a busy main
 * thread delays all of them.
 */
import type { Socket } from 'node:net'
import type { ColdDevice, HotDevice } from './block-device.ts'
import { callCold, needsMemory } from './cold-call.ts'
import { type ColdRequest, IN_FLIGHT_MAX } from './cold-channel.ts'
import type { ConnectionEnd, ConnectionParts, NbdConnection } from './connection.ts'
import { exportFacts } from './export-facts.ts'
import { loadHotModule } from './hot-module.ts'
import { ERRNO } from './nbd-errno.ts'
import { COMMAND } from './protocol.ts'
import { ReplyBuffer, type ReplyOutput } from './reply-buffer.ts'
import { ReplyEncoder } from './reply-encoder.ts'
import { RequestReader } from './request-reader.ts'
import { type ColdPath, Transmission } from './transmission.ts'

/** With more data than this in cold requests no further requests are read. */
const COLD_BYTES_MAX = 8 * 1024 * 1024

export type EventLoopParts = Pick<ConnectionParts, 'export' | 'negotiated' | 'early'> & {
  readonly socket: Socket
}

export class EventLoopConnection implements NbdConnection {
  readonly closed: Promise<ConnectionEnd>
  readonly #socket: Socket

  constructor(parts: EventLoopParts) {
    this.#socket = parts.socket
    this.closed = this.#serve(parts)
  }

  async close(): Promise<void> {
    this.#socket.destroy()
    await this.closed
  }

  async #serve(parts: EventLoopParts): Promise<ConnectionEnd> {
    this.#socket.pause()
    try {
      const open = await loadHotModule(parts.export.hot.moduleUrl)
      const hot = open(parts.export.hot.data)
      try {
        return await serveSocket(parts, hot)
      } finally {
        hot.close()
      }
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error))
    } finally {
      this.#socket.destroy()
    }
  }
}

async function serveSocket(parts: EventLoopParts, hot: HotDevice): Promise<ConnectionEnd> {
  const { socket, negotiated } = parts
  const facts = exportFacts(parts.export)
  const replies = new ReplyBuffer(new SocketOutput(socket))
  const encoder = new ReplyEncoder(replies, negotiated.structuredReplies)
  const reader = new RequestReader(Buffer.alloc(facts.readOnly ? 0 : facts.maximumBlockBytes))
  const cold = parts.export.cold && new EventLoopCold(parts.export.cold, reader, encoder, replies)
  const transmission = new Transmission({ facts, negotiated, hot, reader, encoder, cold })
  for await (const bytes of received(parts)) {
    for (let done = 0; done < bytes.length; ) {
      const count = Math.min(bytes.length - done, reader.targetRoom)
      reader.feed(bytes.subarray(done, done + count))
      done += count
      const goesOn = transmission.serveRequests()
      replies.flush()
      if (!goesOn) return 'disconnect'
    }
    hot.idle?.()
    if (socket.writableNeedDrain) await drained(socket)
    await cold?.room()
  }
  return 'eof'
}

/** What was read with the handshake, then what comes; ends with the stream, however it ends. */
async function* received({ socket, early }: EventLoopParts): AsyncGenerator<Uint8Array> {
  if (early.length > 0) yield early
  try {
    for await (const bytes of socket) yield bytes as Buffer
  } catch {
    // Reset by the client, or closed by us: the connection is at its end either way.
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('drain', resolve)
    socket.once('close', resolve)
  })
}

/** Copies, since the socket sends later and the buffer is used again at once. */
class SocketOutput implements ReplyOutput {
  readonly #socket: Socket

  constructor(socket: Socket) {
    this.#socket = socket
  }

  write(bytes: Buffer, lengthBytes: number): void {
    if (this.#socket.writable) this.#socket.write(Buffer.from(bytes.subarray(0, lengthBytes)))
  }

  writeAll(pieces: Uint8Array[]): void {
    if (this.#socket.writable) this.#socket.write(Buffer.concat(pieces))
  }
}

class EventLoopCold implements ColdPath {
  readonly #device: ColdDevice
  readonly #reader: RequestReader
  readonly #encoder: ReplyEncoder
  readonly #replies: ReplyBuffer
  #inFlight = 0
  #bytes = 0
  #onRoom: (() => void) | undefined

  constructor(
    device: ColdDevice,
    reader: RequestReader,
    encoder: ReplyEncoder,
    replies: ReplyBuffer,
  ) {
    this.#device = device
    this.#reader = reader
    this.#encoder = encoder
    this.#replies = replies
  }

  submit(request: ColdRequest): void {
    const bytes = Buffer.alloc(needsMemory(request) ? request.length : 0)
    if (request.type === COMMAND.write) bytes.set(this.#reader.payload)
    this.#inFlight += 1
    this.#bytes += bytes.length
    void callCold(this.#device, request, bytes).then((errno) => this.#answer(request, bytes, errno))
  }

  /** Resolves when more requests may come. */
  async room(): Promise<void> {
    while (this.#inFlight >= IN_FLIGHT_MAX || this.#bytes >= COLD_BYTES_MAX) {
      await new Promise<void>((resolve) => {
        this.#onRoom = resolve
      })
    }
  }

  #answer(request: ColdRequest, bytes: Buffer, errno: number): void {
    const { type, cookieHigh, cookieLow, offset } = request
    if (type !== COMMAND.read) this.#encoder.answer(cookieHigh, cookieLow, errno)
    else if (errno !== ERRNO.none) this.#encoder.failRead(cookieHigh, cookieLow, errno)
    else {
      this.#encoder.beginRead(cookieHigh, cookieLow, offset, bytes.length, true).append(bytes)
      this.#encoder.endRead()
    }
    this.#replies.flush()
    this.#inFlight -= 1
    this.#bytes -= bytes.length
    this.#onRoom?.()
  }
}
