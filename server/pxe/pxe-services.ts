/**
 * What brings firmware to iPXE and iPXE to its script: proxyDHCP and TFTP, each on or off, on every address of
 * this machine or on those that are named. Addresses come and go (a server may have its own by DHCP, or a
 * network card later than its start); what is there is looked at now and then.
 */
import type { Socket } from 'node:dgram'
import { boundedLog, type Log } from '#server/log.ts'
import { DHCP_SERVER_PORT } from '#shared/dhcp/dhcp-message.ts'
import { BootwireError } from '#shared/errors.ts'
import { type PxeClient, programsFor } from './boot-program.ts'
import type { IpxeFolder } from './ipxe-folder.ts'
import { ownAddresses } from './own-addresses.ts'
import { PROXY_DHCP_OPTION, ProxyDhcpService } from './proxy-dhcp-service.ts'
import { TftpService } from './tftp-service.ts'
import { bindUdp } from './udp-port.ts'

/** What iPXE of 2021 and later asks for first, from where it was loaded itself. */
export const AUTOEXEC_SCRIPT = 'autoexec.ipxe'

export interface PxeSettings {
  readonly hasProxyDhcp: boolean
  readonly hasTftp: boolean
  /** IPv4 addresses of this machine; empty for all there are. */
  readonly addresses: readonly string[]
}

/** Lines on what machines ask for: a room of two hundred that boot writes a thousand, a flood no more. */
const LOG_BOUND = { linesMax: 1000, windowMs: 60_000 }

export interface PxeServicesOptions extends PxeSettings {
  readonly httpPort: number
  readonly ipxe: IpxeFolder
  /** URL paths below `http://ADDRESS:PORT`. */
  readonly paths: { readonly script: string; readonly program: (name: string) => string }
  /** The script that every machine begins with, for one that reaches the server at this URL. */
  readonly renderEntryScript: (serverUrl: string) => string
  readonly log: Log
}

const LOOK_INTERVAL_MS = 10_000

export class PxeServices implements AsyncDisposable {
  readonly #options: PxeServicesOptions
  readonly #timer: NodeJS.Timeout
  readonly #byAddress = new Map<string, AsyncDisposableStack>()
  readonly #proxies = new Map<string, ProxyDhcpService>()
  #broadcasts: Socket | undefined
  #looking: Promise<void> = Promise.resolve()

  private constructor(options: PxeServicesOptions) {
    this.#options = options
    this.#timer = setInterval(() => {
      this.#looking = this.#look().catch((error: unknown) => {
        options.log.warn({ err: error }, 'cannot serve PXE on an address')
      })
    }, LOOK_INTERVAL_MS)
    this.#timer.unref()
  }

  /** @throws {BootwireError} PORT_TAKEN, PERMISSION_DENIED, INVALID_ARGUMENT, NO_BOOT_PROGRAMS */
  static async start(options: PxeServicesOptions): Promise<PxeServices> {
    const services = new PxeServices(options)
    try {
      await services.#begin()
    } catch (error) {
      await services[Symbol.asyncDispose]()
      throw error
    }
    return services
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await this.#looking
    for (const opened of this.#byAddress.values()) await opened.disposeAsync()
    this.#byAddress.clear()
    const { promise, resolve } = Promise.withResolvers<void>()
    if (this.#broadcasts === undefined) resolve()
    else this.#broadcasts.close(() => resolve())
    await promise
  }

  async #begin(): Promise<void> {
    const { hasProxyDhcp, ipxe } = this.#options
    if ((await ipxe.names()).length === 0) {
      throw new BootwireError(
        'NO_BOOT_PROGRAMS',
        `Cannot serve PXE: there are no iPXE programs in ${ipxe.path}`,
      )
    }
    if (hasProxyDhcp && !this.#options.hasTftp) {
      this.#options.log.warn(
        'without --tftp PXE firmware is not answered, only iPXE and UEFI HTTP boot are',
      )
    }
    if (hasProxyDhcp) {
      const place = { address: '0.0.0.0', port: DHCP_SERVER_PORT, option: PROXY_DHCP_OPTION }
      this.#broadcasts = await bindUdp(place)
      this.#broadcasts.on('message', (packet) => {
        for (const proxy of this.#proxies.values()) proxy.hear(packet)
      })
    }
    await this.#look()
    if (this.#byAddress.size === 0) {
      this.#options.log.warn('this machine has no IPv4 address yet: PXE is served once it has one')
    }
  }

  async #look(): Promise<void> {
    const wanted = this.#addresses()
    for (const [address, opened] of this.#byAddress) {
      if (wanted.includes(address)) continue
      this.#byAddress.delete(address)
      await opened.disposeAsync()
    }
    for (const address of wanted) {
      if (!this.#byAddress.has(address)) await this.#serve(address)
    }
  }

  #addresses(): readonly string[] {
    const { addresses } = this.#options
    return addresses.length === 0 ? ownAddresses() : addresses
  }

  async #serve(address: string): Promise<void> {
    const { hasProxyDhcp, hasTftp } = this.#options
    const log = boundedLog(this.#options.log, LOG_BOUND)
    await using opened = new AsyncDisposableStack()
    if (hasTftp) {
      const read = (name: string) => this.#read(name, address)
      opened.use(await TftpService.listen({ address, read, log }))
    }
    if (hasProxyDhcp) {
      const findBootFile = (client: PxeClient) => this.#bootFileFor(client, address)
      const proxy = await ProxyDhcpService.listen({ serverAddress: address, findBootFile, log })
      opened.use(proxy)
      this.#proxies.set(address, proxy)
      opened.defer(() => void this.#proxies.delete(address))
    }
    this.#byAddress.set(address, opened.move())
    log.info({ address, proxyDhcp: hasProxyDhcp, tftp: hasTftp }, 'serving PXE')
  }

  async #read(name: string, address: string): Promise<Uint8Array | undefined> {
    const { ipxe, renderEntryScript } = this.#options
    if (name === AUTOEXEC_SCRIPT) return Buffer.from(renderEntryScript(this.#url(address)))
    return await ipxe.read(name)
  }

  /** A script for iPXE, a URL for firmware that loads over HTTP, a name for TFTP. */
  async #bootFileFor(client: PxeClient, address: string): Promise<string | undefined> {
    const { ipxe, paths, hasTftp } = this.#options
    if (client.isIpxe) return this.#url(address) + paths.script
    const program = await ipxe.first(programsFor(client))
    if (program === undefined) return undefined
    if (client.kind === 'HTTPClient') return this.#url(address) + paths.program(program)
    return hasTftp ? program : undefined
  }

  #url(address: string): string {
    return `http://${address}:${this.#options.httpPort}`
  }
}
