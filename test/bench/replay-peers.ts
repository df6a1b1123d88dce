/** The NBD servers that a boot is replayed against, across a link or on this side of it. */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '#test/support/eventually.ts'
import { BenchProcess } from './child.ts'
import { type Link, SERVER_ADDRESS } from './link.ts'
import type { NbdAddress } from './nbd-reader.ts'

/**
 * local: nbdkit on this side, on a unix socket; nbdkit and qemu-nbd: across the link; nbdkit-cached: a
 * second nbdkit on this side that keeps what it has read and reads ahead.
 */
export const REPLAY_PEERS = ['local', 'nbdkit', 'nbdkit-cached', 'qemu-nbd'] as const
export type ReplayPeer = (typeof REPLAY_PEERS)[number]

export const NBDKIT_PORT = 10_809
export const QEMU_PORT = 10_810

/** More than any bench has clients at a time. */
const QEMU_CLIENTS_MAX = '1024'

/** Servers across the link; they serve any number of runs. */
export class PeerServers implements AsyncDisposable {
  readonly nbdkit: BenchProcess
  readonly qemuNbd: BenchProcess

  private constructor(nbdkit: BenchProcess, qemuNbd: BenchProcess) {
    this.nbdkit = nbdkit
    this.qemuNbd = qemuNbd
  }

  static async start(link: Link, image: string): Promise<PeerServers> {
    const { server } = link
    const nbdkit = ['nbdkit', '-f', '-r', '-p', String(NBDKIT_PORT), 'file', image]
    const qemu = ['qemu-nbd', '-f', 'raw', '-r', '-t', '-e', QEMU_CLIENTS_MAX]
    const servers = new PeerServers(
      await BenchProcess.start(server.command(nbdkit)),
      await BenchProcess.start(server.command([...qemu, '-p', String(QEMU_PORT), image])),
    )
    const listening = 'ss -Hlnt "( sport = :$1 or sport = :$2 )"'
    await eventually('the servers listen', async () => {
      const ports = [NBDKIT_PORT, QEMU_PORT].map(String)
      return (await server.runScript(listening, ports)).trimEnd().split('\n').length >= 2
    })
    return servers
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.nbdkit[Symbol.asyncDispose]()
    await this.qemuNbd[Symbol.asyncDispose]()
  }
}

/** What a client of one run needs on its own side, and where it connects. */
export class PeerClient implements AsyncDisposable {
  readonly address: NbdAddress
  readonly #helper: BenchProcess | undefined

  private constructor(address: NbdAddress, helper?: BenchProcess) {
    this.address = address
    this.#helper = helper
  }

  static async start(
    peer: ReplayPeer,
    {
      link,
      image,
      folder,
    }: { readonly link: Link; readonly image: string; readonly folder: string },
  ): Promise<PeerClient> {
    const nbdkit = `${SERVER_ADDRESS}:${NBDKIT_PORT}`
    const socket = join(folder, `${peer}.sock`)
    const onSocket = ['nbdkit', '-f', '-r', '-U', socket]
    switch (peer) {
      case 'nbdkit':
        return new PeerClient(nbdkit)
      case 'qemu-nbd':
        return new PeerClient(`${SERVER_ADDRESS}:${QEMU_PORT}`)
      case 'local':
        return await PeerClient.#withHelper(socket, [...onSocket, 'file', image])
      case 'nbdkit-cached': {
        const filters = ['--filter=readahead', '--filter=cache']
        const settings = ['cache-on-read=true', `uri=nbd://${nbdkit}`]
        const command = [...onSocket, ...filters, 'nbd', ...settings]
        return await PeerClient.#withHelper(socket, link.client.command(command))
      }
    }
  }

  static async #withHelper(socket: string, command: readonly string[]): Promise<PeerClient> {
    const helper = await BenchProcess.start(command)
    await eventually('the helper listens', () => isSocket(socket))
    return new PeerClient(`unix:${socket}`, helper)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#helper?.[Symbol.asyncDispose]()
  }
}

function isSocket(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() ?? false
}
