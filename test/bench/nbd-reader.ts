/**
 * An NBD client that only reads, any number of requests at a time, for the benches: it costs little,
 * and the same one reads from every server. What it receives is thrown away unless somebody wants it.
 */
import { connect, type Socket } from 'node:net'
import { invariant } from '#shared/invariant.ts'
import { KiB } from '#shared/units.ts'
import { encodeRequest, NBD } from '#test/support/nbd-client.ts'

/** `unix:PATH` or `HOST:PORT`. */
export type NbdAddress = string

/** Gets the bytes of each read in pieces, as they come. */
export type PieceSink = (atBytes: number, piece: Uint8Array) => void

interface Waiting {
  readonly offsetBytes: number
  readonly sizeBytes: number
  readonly done: () => void
}

const RECEIVE_BYTES: number = 256 * KiB
const REPLY_HEADER_BYTES = 16
const REPLY_MAGIC = 0x67446698
const OPTION_EXPORT_NAME = 1
/** Fixed newstyle, no zeroes behind the flags. */
const CLIENT_FLAGS = 3
/** Greeting, then size and flags of the export. */
const HANDSHAKE_BYTES = 18 + 10

export class NbdReader {
  readonly #socket: Socket
  readonly #sink: PieceSink | undefined
  readonly #waiting = new Map<number, Waiting>()
  readonly #opened = Promise.withResolvers<void>()
  readonly #header = Buffer.alloc(REPLY_HEADER_BYTES)
  #handshakeLeft = HANDSHAKE_BYTES
  #headerBytes = 0
  /** The reply that is being received, and how much of it is. */
  #reply: Waiting | undefined
  #replyBytes = 0
  #cookie = 0

  private constructor(address: NbdAddress, sink: PieceSink | undefined) {
    this.#sink = sink
    const callback = (length: number, buffer: Uint8Array): boolean => {
      this.#receive(Buffer.from(buffer.buffer, buffer.byteOffset, length))
      return true
    }
    const onread = { buffer: Buffer.alloc(RECEIVE_BYTES), callback }
    this.#socket = connect({ ...targetOf(address), onread, noDelay: true })
    this.#socket.once('error', this.#opened.reject)
    this.#socket.once('close', () => this.#opened.reject(new Error(`${address} hung up`)))
  }

  /** Opens the default export. */
  static async connect(address: NbdAddress, sink?: PieceSink): Promise<NbdReader> {
    const reader = new NbdReader(address, sink)
    const hello = Buffer.alloc(4 + 16)
    hello.writeUInt32BE(CLIENT_FLAGS, 0)
    hello.write('IHAVEOPT', 4)
    hello.writeUInt32BE(OPTION_EXPORT_NAME, 12)
    reader.#socket.write(hello)
    await reader.#opened.promise
    return reader
  }

  get bytesReceived(): number {
    return this.#socket.bytesRead
  }

  get bytesSent(): number {
    return this.#socket.bytesWritten
  }

  read(offsetBytes: number, sizeBytes: number, done: () => void): void {
    const cookie = this.#cookie++
    this.#waiting.set(cookie, { offsetBytes, sizeBytes, done })
    const request = { type: NBD.read, offset: offsetBytes, length: sizeBytes }
    this.#socket.write(encodeRequest(request, BigInt(cookie)))
  }

  close(): void {
    this.#socket.end(encodeRequest({ type: NBD.disconnect }, 0n))
  }

  #receive(bytes: Buffer): void {
    let at = 0
    if (this.#handshakeLeft > 0) {
      at = Math.min(this.#handshakeLeft, bytes.length)
      this.#handshakeLeft -= at
      if (this.#handshakeLeft === 0) this.#opened.resolve()
    }
    while (at < bytes.length) {
      at = this.#reply === undefined ? this.#takeHeader(bytes, at) : this.#takeData(bytes, at)
    }
  }

  #takeHeader(bytes: Buffer, at: number): number {
    const end = Math.min(at + REPLY_HEADER_BYTES - this.#headerBytes, bytes.length)
    this.#headerBytes += bytes.copy(this.#header, this.#headerBytes, at, end)
    if (this.#headerBytes < REPLY_HEADER_BYTES) return end
    this.#headerBytes = 0
    invariant(this.#header.readUInt32BE(0) === REPLY_MAGIC, 'a reply begins with its magic')
    invariant(this.#header.readUInt32BE(4) === 0, 'a read of the bench is answered')
    const cookie = Number(this.#header.readBigUInt64BE(8))
    this.#reply = this.#waiting.get(cookie)
    this.#waiting.delete(cookie)
    invariant(this.#reply !== undefined, `a reply to a request that waits, not ${cookie}`)
    this.#replyBytes = 0
    return end
  }

  #takeData(bytes: Buffer, at: number): number {
    const reply = this.#reply
    invariant(reply !== undefined, 'there is a reply')
    const end = Math.min(at + reply.sizeBytes - this.#replyBytes, bytes.length)
    this.#sink?.(reply.offsetBytes + this.#replyBytes, bytes.subarray(at, end))
    this.#replyBytes += end - at
    if (this.#replyBytes === reply.sizeBytes) {
      this.#reply = undefined
      reply.done()
    }
    return end
  }
}

function targetOf(address: NbdAddress): { path: string } | { host: string; port: number } {
  if (address.startsWith('unix:')) return { path: address.slice('unix:'.length) }
  const [host = '', port] = address.split(':')
  return { host, port: Number(port) }
}
