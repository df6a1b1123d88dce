/**
 * A site in networks of its own, beside a DHCP server of somebody else: the bootwire server in one namespace, the
 * switch with the foreign DHCP server in another, and a port for a machine. Needs root.
 */
import { BootSite } from './boot-site.ts'
import { LAN_HOST_ADDRESS, Lan } from './lan.ts'
import { NetworkNamespace } from './network-namespace.ts'
import { ensureExt4Image } from './vdisk-image.ts'
import type { LanPort } from './virtual-machine.ts'

/** Longer than any test. */
const LEASE_SECONDS = 3600

export class LanSite implements AsyncDisposable {
  /** Where the server is. */
  readonly host: NetworkNamespace
  readonly lan: Lan
  readonly site: BootSite
  readonly port: LanPort
  readonly #opened: AsyncDisposableStack

  private constructor(
    parts: Pick<LanSite, 'host' | 'lan' | 'site' | 'port'>,
    opened: AsyncDisposableStack,
  ) {
    this.host = parts.host
    this.lan = parts.lan
    this.site = parts.site
    this.port = parts.port
    this.#opened = opened
  }

  /** With the vDisk `lab`; `dhcpOptions` are those of `Lan.startDhcp`. */
  static async start(
    serveOptions: readonly string[],
    dhcpOptions: readonly string[] = [],
  ): Promise<LanSite> {
    await using opened = new AsyncDisposableStack()
    const host = opened.use(await NetworkNamespace.create())
    const lan = opened.use(await Lan.create(host))
    await lan.startDhcp(undefined, LEASE_SECONDS, ...dhcpOptions)
    const site = opened.use(
      await BootSite.startIn(host, '--address', LAN_HOST_ADDRESS, ...serveOptions),
    )
    await site.importImage(await ensureExt4Image(site.rootfs), 'lab')
    return new LanSite({ host, lan, site, port: await lan.port() }, opened.move())
  }

  /** The DHCP server, with other options from now on. */
  async restartDhcp(...options: string[]): Promise<void> {
    await this.lan.stopDhcp()
    await this.lan.startDhcp(undefined, LEASE_SECONDS, ...options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync()
  }
}
