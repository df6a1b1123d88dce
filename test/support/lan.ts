/**
 * A real network for machines: a switch in a network namespace with a DHCP server of its own (udhcpd of
 * busybox, whose leases may be short), and this host plugged in. Needs root.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runScript } from './child-run.ts'
import { NetworkNamespace } from './network-namespace.ts'
import { createTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'
import type { LanPort } from './virtual-machine.ts'

/** This host on it. */
export const LAN_HOST_ADDRESS = '10.79.0.1'

const DHCP_ADDRESS = '10.79.0.2'
const HOST_CARD = 'bwlan0'

export class Lan implements AsyncDisposable {
  readonly #namespace: NetworkNamespace
  readonly #folder: string
  readonly #opened: AsyncDisposableStack
  #taps = 0
  #hosts = 0
  #dhcp: ChildProcess | undefined
  #dhcpLog = ''

  private constructor(namespace: NetworkNamespace, folder: string, opened: AsyncDisposableStack) {
    this.#namespace = namespace
    this.#folder = folder
    this.#opened = opened
  }

  /** Plugs in this host, or a network namespace that takes its place. */
  static async create(host?: NetworkNamespace): Promise<Lan> {
    await using opened = new AsyncDisposableStack()
    const folder: TemporaryFolder = opened.use(await createTemporaryFolder())
    const namespace = opened.use(await NetworkNamespace.create())
    const plugIn = `
      ip link add "$1" type veth peer name host
      ip link set host netns "$2"
      ip address add "$3/24" dev "$1"
      ip link set "$1" up`
    const args = [HOST_CARD, String(namespace.pid), LAN_HOST_ADDRESS]
    if (host === undefined) await runScript(plugIn, args)
    else await host.runScript(plugIn, args)
    await namespace.runScript(
      `ip link add switch type bridge
       ip link set host master switch
       ip address add "$1/24" dev switch
       ip link set host up
       ip link set switch up`,
      [DHCP_ADDRESS],
    )
    return new Lan(namespace, folder.path, opened.move())
  }

  /** Plugs in another host. */
  async plugIn(host: NetworkNamespace, address: string): Promise<void> {
    this.#hosts += 1
    await host.runScript(
      `ip link add lan type veth peer name "$2"
       ip link set "$2" netns "$1"
       ip address add "$3/24" dev lan
       ip link set lan up`,
      [String(this.#namespace.pid), `host${this.#hosts}`, address],
    )
    const card = `host${this.#hosts}`
    await this.#namespace.runScript('ip link set "$1" master switch up', [card])
  }

  /** A port to plug a machine into. */
  async port(): Promise<LanPort> {
    this.#taps += 1
    const tap = `port${this.#taps}`
    await this.#namespace.runScript(
      'ip tuntap add dev "$1" mode tap; ip link set "$1" master switch up',
      [tap],
    )
    return { tap, command: (command) => this.#namespace.command(command) }
  }

  /** Runs lines of shell in the switch, whose cards are `switch`, `host` and `port1`, `port2`, … */
  async runScript(script: string, args: readonly string[] = []): Promise<string> {
    return await this.#namespace.runScript(script, args)
  }

  /** What has gone over a port so far, in both directions. */
  bytesOf({ tap }: LanPort): number {
    const { received, sent } = this.#namespace.interfaceBytes(tap)
    return received + sent
  }

  /** The same command, in the switch. */
  command(command: readonly string[]): string[] {
    return this.#namespace.command(command)
  }

  /** Gives leases of so many seconds to whoever asks, and, if told, names what to boot. */
  async startDhcp(
    bootUrl: string | undefined,
    leaseSeconds: number,
    ...options: string[]
  ): Promise<void> {
    const file = join(this.#folder, 'udhcpd.conf')
    const lines = [
      'interface switch',
      'start 10.79.0.100',
      'end 10.79.0.150',
      'min_lease 10',
      `lease_file ${join(this.#folder, 'leases')}`,
      `pidfile ${join(this.#folder, 'udhcpd.pid')}`,
      ...(bootUrl === undefined ? [] : [`boot_file ${bootUrl}`]),
      'option subnet 255.255.255.0',
      `option router ${LAN_HOST_ADDRESS}`,
      `option lease ${leaseSeconds}`,
      ...options.map((option) => `option ${option}`),
    ]
    await writeFile(join(this.#folder, 'leases'), '', { flag: 'a' })
    await writeFile(file, `${lines.join('\n')}\n`)
    const [program = '', ...args] = this.#namespace.command(['busybox', 'udhcpd', '-f', file])
    const command = ['--pdeathsig', 'KILL', program, ...args]
    this.#dhcp = spawn('setpriv', command, { stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [this.#dhcp.stdout, this.#dhcp.stderr]) {
      stream?.on('data', (part) => (this.#dhcpLog += String(part)))
    }
  }

  async stopDhcp(): Promise<void> {
    if (this.#dhcp === undefined || this.#dhcp.exitCode !== null) return
    // It writes its leases down.
    this.#dhcp.kill('SIGTERM')
    await once(this.#dhcp, 'exit')
    this.#dhcp = undefined
  }

  /** Offers it has made. */
  get offersMade(): number {
    return this.#dhcpLog.match(/sending OFFER/gi)?.length ?? 0
  }

  /** How often it has given or renewed a lease. */
  get leasesGiven(): number {
    return this.#dhcpLog.match(/sending ACK/gi)?.length ?? 0
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopDhcp()
    await this.#opened.disposeAsync()
  }
}
