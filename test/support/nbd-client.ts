/** A bare NBD client in its transmission phase, with simple replies: sends what it is told, in any order. */
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { invariant } from '#shared/invariant.ts'

export const NBD = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const

const REPLY_HEADER_BYTES = 16

export interface NbdRequest {
  readonly type: number
  readonly offset?: number
  readonly length?: number
  readonly flags?: number
  readonly payload?: Buffer
}

export interface NbdReply {
  readonly errno: number
  readonly data: Buffer
}

interface Waiting {
  readonly dataBytes: number
  readonly settle: (reply: NbdReply) => void
}

export function encodeRequest(request: NbdRequest, cookie: bigint): Buffer {
  const { type, offset = 0, flags = 0, payload } = request
  const header = Buffer.alloc(28)
  header.writeUInt32BE(0x25609513, 0)
  header.writeUInt16BE(flags, 4)
  header.writeUInt16BE(type, 6)
  header.writeBigUInt64BE(cookie, 8)
  header.writeBigUInt64BE(BigInt(offset), 16)
  header.writeUInt32BE(request.length ?? payload?.length ?? 0, 24)
  return payload === undefined ? header : Buffer.concat([header, payload])
}

export class NbdClient {
  readonly socket: Duplex
  readonly #waiting = new Map<bigint, Waiting>()
  #received: Buffer[] = []
  #receivedBytes = 0
  /** With fewer bytes there is no reply to take. */
  #neededBytes = REPLY_HEADER_BYTES
  #cookie = 0x1122_3344_8000_0000n

  constructor(socket: Duplex) {
    this.socket = socket
    socket.on('data', (bytes: Buffer) => {
      this.#received.push(bytes)
      this.#receivedBytes += bytes.length
      while (this.#takeReply());
    })
    socket.on('error', () => socket.destroy())
  }

  /** Requests that are not answered. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** Sends a request; resolves with its reply, and never when the connection ends before. */
  request(request: NbdRequest): Promise<NbdReply> {
    const cookie = this.#cookie++
    const dataBytes = request.type === NBD.read ? (request.length ?? 0) : 0
    const replied = new Promise<NbdReply>((settle) => {
      this.#waiting.set(cookie, { dataBytes, settle })
    })
    this.socket.write(encodeRequest(request, cookie))
    return replied
  }

  read(offset: number, length: number): Promise<NbdReply> {
    return this.request({ type: NBD.read, offset, length })
  }

  write(offset: number, payload: Buffer): Promise<NbdReply> {
    return this.request({ type: NBD.write, offset, payload })
  }

  disconnect(): void {
    this.socket.write(encodeRequest({ type: NBD.disconnect }, 0n))
  }

  #takeReply(): boolean {
    if (this.#receivedBytes < this.#neededBytes) return false
    const bytes = Buffer.concat(this.#received)
    this.#received = [bytes]
    invariant(bytes.readUInt32BE(0) === 0x67446698, 'a reply begins with its magic')
    const errno = bytes.readUInt32BE(4)
    const cookie = bytes.readBigUInt64BE(8)
    const waiting = this.#waiting.get(cookie)
    invariant(waiting !== undefined, `a reply to a request that waits, not ${cookie}`)
    const end = REPLY_HEADER_BYTES + (errno === 0 ? waiting.dataBytes : 0)
    this.#neededBytes = end
    if (bytes.length < end) return false
    this.#neededBytes = REPLY_HEADER_BYTES
    this.#waiting.delete(cookie)
    this.#received = [bytes.subarray(end)]
    this.#receivedBytes -= end
    waiting.settle({ errno, data: bytes.subarray(REPLY_HEADER_BYTES, end) })
    return true
  }
}

/** The greeting, then size and flags. */
const HANDSHAKE_BYTES = 18 + 10

/** Connects and negotiates the export named `disk`, without structured replies. */
export async function connectNbd(socketPath: string): Promise<NbdClient> {
  const socket = connect(socketPath)
  socket.write(
    Buffer.concat([Buffer.from([0, 0, 0, 3]), Buffer.from('IHAVEOPT\0\0\0\x01\0\0\0\x04disk')]),
  )
  await new Promise<void>((resolve, reject) => {
    let received = 0
    const onData = (bytes: Buffer): void => {
      received += bytes.length
      if (received < HANDSHAKE_BYTES) return
      socket.off('data', onData)
      resolve()
    }
    socket.on('data', onData)
    socket.once('close', () => reject(new Error('the server hung up')))
    socket.once('error', reject)
  })
  return new NbdClient(socket)
}
