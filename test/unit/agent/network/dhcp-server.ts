/** A DHCP server's answers, as bytes and from a port of this machine. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'

export interface Answer {
  /** 5 is ACK, 6 NAK. */
  readonly type: number
  readonly leaseSeconds?: number
  readonly renewalSeconds?: number
  readonly rebindingSeconds?: number
  readonly serverId?: string
}

export function dhcpAnswer(request: Buffer, answer: Answer): Buffer {
  const { type, leaseSeconds, renewalSeconds, rebindingSeconds, serverId = '10.0.2.2' } = answer
  const header = Buffer.from(request.subarray(0, 240))
  header[0] = 2
  const seconds = (code: number, value: number | undefined) => {
    const option = Buffer.of(code, 4, 0, 0, 0, 0)
    option.writeUInt32BE(value ?? 0, 2)
    return value === undefined ? Buffer.alloc(0) : option
  }
  return Buffer.concat([
    header,
    Buffer.of(53, 1, type),
    Buffer.of(54, 4, ...serverId.split('.').map(Number)),
    seconds(58, renewalSeconds),
    seconds(59, rebindingSeconds),
    seconds(51, leaseSeconds),
    Buffer.of(255),
  ])
}

export class DhcpServer implements AsyncDisposable {
  /** Undefined: silent. */
  answer: Answer | undefined
  readonly requests: Buffer[] = []
  readonly #socket = createSocket('udp4')

  static async start(answer: Answer | undefined): Promise<DhcpServer> {
    const server = new DhcpServer()
    server.answer = answer
    server.#socket.on('message', (request, { address, port }) => {
      server.requests.push(request)
      if (server.answer === undefined) return
      server.#socket.send(dhcpAnswer(request, server.answer), port, address)
    })
    server.#socket.bind(0, '127.0.0.1')
    await once(server.#socket, 'listening')
    return server
  }

  get port(): number {
    return this.#socket.address().port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#socket, 'close')
    this.#socket.close()
    await closed
  }
}
