/**
 * The proxyDHCP server of one address. Offers go out from that address, by which the system chooses the
 * network; broadcasts of clients come to a socket that all addresses share (`hear`).
 */
import type { RemoteInfo, Socket } from 'node:dgram'
import type { Log } from '#server/log.ts'
import {
  DHCP_SERVER_PORT,
  type DhcpMessage,
  decodeDhcpMessage,
  encodeDhcpMessage,
  macText,
} from '#shared/dhcp/dhcp-message.ts'
import { type PxeClient, programsFor, pxeClientOf } from './boot-program.ts'
import {
  bootServerAck,
  offerDestination,
  type ProxyAnswer,
  type ProxyDhcpOptions,
  proxyOffer,
} from './proxy-dhcp.ts'
import { bindUdp } from './udp-port.ts'

/** Also called the boot server or "PXE" port. */
export const BOOT_SERVER_PORT = 4011

export const PROXY_DHCP_OPTION = '--proxy-dhcp'

export interface ProxyDhcpServiceOptions {
  readonly serverAddress: string
  /** As `ProxyDhcpOptions.bootFileFor`; may look at the disk. */
  readonly findBootFile: (client: PxeClient) => Promise<string | undefined>
  readonly log: Log
}

export class ProxyDhcpService implements AsyncDisposable {
  readonly #options: ProxyDhcpServiceOptions
  readonly #sockets: readonly Socket[]
  readonly #offers: Socket

  private constructor(options: ProxyDhcpServiceOptions, offers: Socket, acks: Socket) {
    this.#options = options
    this.#offers = offers
    this.#sockets = [offers, acks]
    offers.setBroadcast(true)
    offers.on('message', (packet) => this.hear(packet))
    acks.on('message', (packet, client) => this.#acknowledge(acks, packet, client))
    for (const socket of this.#sockets) {
      socket.on('error', (error) => options.log.error({ err: error }, 'proxyDHCP'))
    }
  }

  /** @throws {BootwireError} PORT_TAKEN, PERMISSION_DENIED, INVALID_ARGUMENT */
  static async listen(options: ProxyDhcpServiceOptions): Promise<ProxyDhcpService> {
    const place = { address: options.serverAddress, option: PROXY_DHCP_OPTION }
    const offers = await bindUdp({ ...place, port: DHCP_SERVER_PORT })
    try {
      const acks = await bindUdp({ ...place, port: BOOT_SERVER_PORT })
      return new ProxyDhcpService(options, offers, acks)
    } catch (error) {
      offers.close()
      throw error
    }
  }

  /** Takes what came to port 67, of this address or of everybody's. */
  hear(packet: Buffer): void {
    const message = decodeDhcpMessage(packet)
    if (message === undefined) return
    this.#answer(message, proxyOffer, (reply) => {
      const { address, port } = offerDestination(message)
      this.#offers.send(reply, port, address, this.#onSent)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#sockets.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))),
    )
  }

  #acknowledge(socket: Socket, packet: Buffer, { address, port }: RemoteInfo): void {
    const message = decodeDhcpMessage(packet)
    if (message === undefined) return
    this.#answer(message, bootServerAck, (reply) => {
      socket.send(reply, port, address, this.#onSent)
    })
  }

  #answer(
    message: DhcpMessage,
    respond: (message: DhcpMessage, options: ProxyDhcpOptions) => ProxyAnswer | undefined,
    send: (reply: Buffer) => void,
  ): void {
    const client = pxeClientOf(message)
    if (client === undefined) return
    const { serverAddress, findBootFile, log } = this.#options
    const about = { mac: macText(message.hardwareAddress), ...client, server: serverAddress }
    const work = async () => {
      const bootFile = await findBootFile(client)
      const answer = respond(message, { serverAddress, bootFileFor: () => bootFile })
      if (answer !== undefined) {
        log.info({ ...about, bootFile }, 'proxyDHCP')
        send(encodeDhcpMessage(answer.message))
      } else if (bootFile === undefined) {
        const programs = programsFor(client)
        log.warn({ ...about, programs }, 'proxyDHCP: there is no boot program for this machine')
      }
    }
    work().catch((error: unknown) => log.error({ err: error, ...about }, 'proxyDHCP'))
  }

  readonly #onSent = (error: Error | null): void => {
    if (error !== null) this.#options.log.warn({ err: error }, 'proxyDHCP: cannot send')
  }
}
