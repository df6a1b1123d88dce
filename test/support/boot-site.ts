/** A real server with real vDisks, and machines without disks that boot from it. */
import { join } from 'node:path'
import type { BootView, ClientView, VDiskView } from '#server/admin/admin-api.ts'
import type { BootPhase } from '#shared/boot/boot-phase.ts'
import { type Accelerator, chooseAccelerator } from './accelerator.ts'
import { ensureAgentImage } from './agent-image.ts'
import { eventually } from './eventually.ts'
import { GuestShell, LOGIN_PROMPT } from './guest-shell.ts'
import type { NetworkNamespace } from './network-namespace.ts'
import { ensureRootfs, type Rootfs } from './rootfs.ts'
import { type ServerProcess, startServerProcessIn } from './server-process.ts'
import { createTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'
import { ensureKernelFiles } from './vdisk-image.ts'
import {
  BOOT_TIMEOUT_MS,
  HOST_ADDRESS,
  type LanPort,
  type StreamPort,
  VirtualMachine,
  type VmNetwork,
  type VmOptions,
} from './virtual-machine.ts'

/** What the server learns of a boot that went all the way. */
export const COMPLETE_BOOT: readonly BootPhase[] = [
  'ipxe',
  'kernel',
  'agent',
  'network',
  'identified',
  'chosen',
  'attached',
  'first-block',
  'root-mounted',
]

/** From a command to power off, or to the firmware's first line, on emulated processors. */
export const SHUTDOWN_TIMEOUT_MS = 90_000

/** The agent tells its memory now and then. */
const STATUS_TIMEOUT_MS = 30_000

/** What a console must never show: errors of the block layer, the device, or a file system. */
const DISK_ERRORS =
  /^.*(?:I\/O error|blk_update_request|nbd\d+: .*(?:error|fail|timed out)|EXT4-fs error|EXT4-fs.*abort|JBD2.*(?:error|abort)|XFS .*(?:error|Corruption|Shutdown)|BTRFS (?:error|critical)).*$/im

export type MachineOptions = Omit<VmOptions, 'accelerator' | 'network'> &
  Pick<VmNetwork, 'mac' | 'card' | 'bootsBy'> & {
    /** Where it is plugged in; else it is on QEMU's own network. */
    readonly port?: LanPort | StreamPort
  }

export class BootSite implements AsyncDisposable {
  readonly rootfs: Rootfs
  readonly stateFolder: string
  readonly startServer: (...options: string[]) => Promise<ServerProcess>
  readonly #accelerator: Accelerator
  readonly #serveOptions: readonly string[]
  readonly #opened: AsyncDisposableStack
  #server: ServerProcess

  private constructor(
    parts: Pick<BootSite, 'server' | 'startServer' | 'rootfs' | 'stateFolder'> & {
      readonly accelerator: Accelerator
      readonly serveOptions: readonly string[]
    },
    opened: AsyncDisposableStack,
  ) {
    this.rootfs = parts.rootfs
    this.stateFolder = parts.stateFolder
    this.startServer = parts.startServer
    this.#accelerator = parts.accelerator
    this.#serveOptions = parts.serveOptions
    this.#opened = opened
    this.#server = parts.server
  }

  get server(): ServerProcess {
    return this.#server
  }

  /** Starts the server with these options of `bootwire serve`. */
  static async start(...serveOptions: string[]): Promise<BootSite> {
    return await BootSite.startIn(undefined, ...serveOptions)
  }

  /** The same with the server in a network of its own; machines are plugged in by `port`. */
  static async startIn(
    network: NetworkNamespace | undefined,
    ...serveOptions: string[]
  ): Promise<BootSite> {
    const rootfs = await ensureRootfs()
    await ensureAgentImage()
    const accelerator = await chooseAccelerator((await ensureKernelFiles(rootfs)).kernel)
    await using opened = new AsyncDisposableStack()
    const folder: TemporaryFolder = opened.use(await createTemporaryFolder())
    const stateFolder = join(folder.path, 'state')
    const startServer: BootSite['startServer'] = (...options) =>
      startServerProcessIn(
        (command) => network?.command(command) ?? [...command],
        stateFolder,
        ...options,
      )
    const server = opened.use(await startServer(...serveOptions))
    const parts = { server, startServer, rootfs, stateFolder, accelerator, serveOptions }
    return new BootSite(parts, opened.move())
  }

  /** Stops the server for as long as `meanwhile` runs. It comes back on the same ports. */
  async withoutServer(
    meanwhile: () => Promise<unknown>,
    signal: NodeJS.Signals = 'SIGTERM',
  ): Promise<void> {
    const { httpPort, tlsPort } = this.#server
    const ports = ['--http-port', String(httpPort), '--tls-port', String(tlsPort)]
    await this.#server.stop(signal)
    try {
      await meanwhile()
    } finally {
      const options = [...this.#serveOptions, ...ports]
      this.#server = this.#opened.use(await this.startServer(...options))
    }
  }

  /** Freezes the server for as long as `meanwhile` runs: connections stay, and nothing answers. */
  async withFrozenServer(meanwhile: () => Promise<unknown>): Promise<void> {
    this.#server.signal('SIGSTOP')
    try {
      await meanwhile()
    } finally {
      this.#server.signal('SIGCONT')
    }
  }

  async importImage(image: string, name: string): Promise<VDiskView> {
    const { status, stderr } = await this.server.run(
      'vdisk',
      'import',
      image,
      '--name',
      name,
      '--access',
      'anyone',
    )
    if (status !== 0) throw new Error(stderr)
    return await this.server.json<VDiskView>('vdisk', 'show', name)
  }

  /** Switches a machine on; it is stopped with the site. */
  powerOn({ mac, card, bootsBy, port, ...options }: MachineOptions): VirtualMachine {
    const from = port ?? { bootUrl: `http://${HOST_ADDRESS}:${this.server.httpPort}/boot.ipxe` }
    return this.#opened.use(
      VirtualMachine.start({
        ...options,
        accelerator: this.#accelerator,
        network: { from, mac, ...(card && { card }), ...(bootsBy && { bootsBy }) },
      }),
    )
  }

  async client(mac: string): Promise<ClientView> {
    return await this.server.json<ClientView>('client', 'show', mac)
  }

  /** The boots of a client, oldest first. */
  async boots(mac: string): Promise<BootView[]> {
    return (await this.server.json<BootView[]>('boots', mac)).toReversed()
  }

  /** Waits until the record of a client's latest boot is as wanted. Returns it. */
  async bootWhen(
    mac: string,
    what: string,
    isSo: (boot: BootView) => boolean,
    timeoutMs: number = STATUS_TIMEOUT_MS,
  ): Promise<BootView> {
    let latest: BootView | undefined
    const check = async () => {
      latest = (await this.boots(mac)).at(-1)
      return latest !== undefined && isSo(latest)
    }
    try {
      await eventually(what, check, timeoutMs)
    } catch (error) {
      throw new Error(`${what}: not so in ${JSON.stringify(latest)}`, { cause: error })
    }
    if (latest === undefined) throw new Error('no boot')
    return latest
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync()
  }
}

export interface LoggedIn {
  readonly hostname: string
  readonly shell: GuestShell
}

/** Waits for the login prompt and logs in. */
export async function logIn(machine: VirtualMachine): Promise<LoggedIn> {
  const prompt = await machine.console.expect(LOGIN_PROMPT, { timeoutMs: BOOT_TIMEOUT_MS })
  const shell = await GuestShell.login(machine.console)
  return { hostname: prompt.groups['hostname'] ?? '', shell }
}

/** What the kernel says when an agent is killed: its socket ends. No request fails by it. */
const AGENT_GONE =
  /^.*nbd\d+: (?:Receive control failed|Send (?:data|control) failed|Request send failed, requeueing|Dead connection).*$/gm

/** Returns the first line of the console that tells of an error of the disk. */
export function diskError(
  machine: VirtualMachine,
  { agentWasKilled = false }: { readonly agentWasKilled?: boolean } = {},
): string | undefined {
  const { text } = machine.console
  return DISK_ERRORS.exec(agentWasKilled ? text.replace(AGENT_GONE, '') : text)?.[0]
}
