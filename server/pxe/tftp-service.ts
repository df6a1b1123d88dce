/** Gives files to firmware by TFTP, on one address; takes none. */
import type { RemoteInfo, Socket } from 'node:dgram'
import type { Log } from '#server/log.ts'
import { printable } from '#server/printable.ts'
import { decodeTftp, encodeError, type ReadRequest, TFTP_ERROR } from './tftp-message.ts'
import { TftpTransfer, type TransferStep } from './tftp-transfer.ts'
import { bindUdp } from './udp-port.ts'

export interface TftpServiceOptions {
  readonly address: string
  /** Returns a file by its name alone; undefined when there is none. */
  readonly read: (name: string) => Promise<Uint8Array | undefined>
  readonly log: Log
  /** Only given by tests. */
  readonly port?: number
}

const TFTP_PORT = 69

/** A class room that is switched on; each holds a socket for a second. */
const TRANSFERS_MAX = 256
/** Machines behind one router; a stranger must not take all of the above. */
const TRANSFERS_PER_ADDRESS_MAX = 64

const OPTION = '--tftp'

interface Running {
  readonly transfer: TftpTransfer
  readonly resend: () => void
  readonly close: () => void
}

export class TftpService implements AsyncDisposable {
  readonly #options: TftpServiceOptions
  readonly #socket: Socket
  /** By address and port of the client. */
  readonly #running = new Map<string, Running>()

  private constructor(options: TftpServiceOptions, socket: Socket) {
    this.#options = options
    this.#socket = socket
    socket.on('message', (packet, client) => {
      this.#take(packet, client).catch((error: unknown) => {
        options.log.error({ err: error }, 'TFTP request failed')
      })
    })
    socket.on('error', (error) => options.log.error({ err: error }, 'TFTP'))
  }

  /** @throws {BootwireError} PORT_TAKEN, PERMISSION_DENIED, INVALID_ARGUMENT */
  static async listen(options: TftpServiceOptions): Promise<TftpService> {
    const { address, port = TFTP_PORT } = options
    return new TftpService(options, await bindUdp({ address, port, option: OPTION }))
  }

  get port(): number {
    return this.#socket.address().port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { close } of this.#running.values()) close()
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()))
  }

  async #take(packet: Buffer, client: RemoteInfo): Promise<void> {
    const request = decodeTftp(packet)
    if (request?.kind === 'write') {
      return this.#refuse(client, TFTP_ERROR.accessViolation, 'This server takes no files')
    }
    if (request?.kind !== 'read') return // belongs to a transfer's own port
    const known = this.#running.get(keyOf(client))
    if (known?.transfer.isUnanswered === true) return known.resend()
    if (known !== undefined) return
    if (request.mode !== 'octet') {
      return this.#refuse(client, TFTP_ERROR.illegal, 'Only transfers in mode octet')
    }
    if (this.#isFull(client)) {
      return this.#refuse(client, TFTP_ERROR.undefined, 'Too many transfers, try again later')
    }
    await this.#send(request, client)
  }

  async #send(request: ReadRequest, client: RemoteInfo): Promise<void> {
    const name = request.name.replace(/^[/\\]+/, '')
    const file = await this.#options.read(name)
    const { address, log } = this.#options
    const about = { name: printable(request.name), client: client.address }
    if (file === undefined) {
      log.info(about, 'TFTP: no such file')
      return this.#refuse(client, TFTP_ERROR.notFound, 'There is no such file on this server')
    }
    // Asked twice, and the first is being answered.
    if (this.#running.has(keyOf(client))) return
    const socket = await bindUdp({ address, port: 0, option: OPTION })
    this.#run(new TftpTransfer(file, request.options), socket, client, about)
  }

  #run(
    transfer: TftpTransfer,
    socket: Socket,
    client: RemoteInfo,
    about: Readonly<Record<string, unknown>>,
  ): void {
    const { log } = this.#options
    const startedMs = performance.now()
    let timer: NodeJS.Timeout | undefined
    const send = (packets: readonly Buffer[]) => {
      clearTimeout(timer)
      timer = setTimeout(() => follow(transfer.timeout()), transfer.timeoutMs)
      for (const packet of packets) socket.send(packet, client.port, client.address)
    }
    const end = (how: string, code?: number) => {
      clearTimeout(timer)
      this.#running.delete(keyOf(client))
      socket.close()
      const ms = Math.round(performance.now() - startedMs)
      log.info({ ...about, ms, ...(code !== undefined && { code }) }, `TFTP: ${how}`)
    }
    const follow = (step: TransferStep) => {
      if (step.state === 'done') end('sent')
      else if (step.state === 'given-up') end('the client does not answer any more')
      else if (step.packets.length > 0) send(step.packets)
    }
    socket.on('error', (error) => log.debug({ err: error, ...about }, 'TFTP'))
    socket.on('message', (packet, { address, port }) => {
      if (port !== client.port || address !== client.address) {
        socket.send(encodeError(TFTP_ERROR.unknownTransfer, 'Not your transfer'), port, address)
        return
      }
      const said = decodeTftp(packet)
      if (said?.kind === 'ack') follow(transfer.acknowledge(said.block))
      // Firmware asks for the size alone, and breaks off (error 8).
      else if (said?.kind === 'error') end('the client broke off', said.code)
    })
    this.#running.set(keyOf(client), {
      transfer,
      resend: () => send(transfer.packets()),
      close: () => end('the server stops'),
    })
    send(transfer.packets())
  }

  #isFull({ address }: RemoteInfo): boolean {
    const ofAddress = [...this.#running.keys()].filter((key) => key.startsWith(`${address} `))
    return this.#running.size >= TRANSFERS_MAX || ofAddress.length >= TRANSFERS_PER_ADDRESS_MAX
  }

  #refuse({ address, port }: RemoteInfo, code: number, text: string): void {
    this.#socket.send(encodeError(code, text), port, address)
  }
}

function keyOf({ address, port }: RemoteInfo): string {
  return `${address} ${port}`
}
