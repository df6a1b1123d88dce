/** The NBD servers of the bench, each a process of its own on a unix socket. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { runScript } from '#test/support/child-run.ts'
import { eventually } from '#test/support/eventually.ts'
import { ahead } from './ahead.ts'

export const PEERS = ['bootwire', 'bootwire-file', 'nbdkit', 'nbdkit-file', 'qemu-nbd'] as const
export type PeerName = (typeof PEERS)[number]

/** Filling a server of ours with an image takes a few seconds; other work may be going on. */
const START_TIMEOUT_MS = 120_000

/** Ticks of /proc/PID/stat: USER_HZ, which is 100 on every Linux. */
const TICK_MS = 10

export class Peer implements AsyncDisposable {
  readonly name: PeerName
  readonly uri: string
  readonly #child: ChildProcess

  private constructor(name: PeerName, socketPath: string, child: ChildProcess) {
    this.name = name
    this.uri = `nbd+unix:///?socket=${socketPath}`
    this.#child = child
  }

  /** Starts the server and compares every byte it serves with the image. */
  static async start(name: PeerName, imagePath: string, folder: string): Promise<Peer> {
    const socketPath = join(folder, `${name}.sock`)
    const [program, args] = ahead(commandOf(name, imagePath, socketPath, folder))
    const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] })
    const peer = new Peer(name, socketPath, child)
    await eventually(`${name} listens`, () => isSocket(socketPath), START_TIMEOUT_MS)
    if (name === 'nbdkit') await runScript('nbdcopy "$1" "$2"', [imagePath, peer.uri])
    await runScript('nbdcopy "$1" - | cmp - "$2"', [peer.uri, imagePath])
    return peer
  }

  /** CPU time of the server so far, of all its threads. */
  cpuMs(): number {
    const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGTERM')
    await once(this.#child, 'exit')
  }
}

function commandOf(name: PeerName, image: string, socket: string, folder: string): string[] {
  const ours = (where: string): string[] => {
    const writeCache = join(folder, `write-cache-${where}`)
    mkdirSync(writeCache, { recursive: true })
    const program = new URL('./nbd-server-process.ts', import.meta.url).pathname
    return [process.execPath, program, image, socket, where, writeCache]
  }
  switch (name) {
    case 'bootwire':
      return ours('ram')
    case 'bootwire-file':
      return ours('file')
    case 'nbdkit': // the default allocator, which is sparse; every page is written before
      return ['nbdkit', '-f', '-U', socket, 'memory', String(statSync(image).size)]
    case 'nbdkit-file':
      return ['nbdkit', '-f', '-U', socket, 'file', image]
    case 'qemu-nbd':
      return ['qemu-nbd', '-f', 'raw', '-k', socket, '-t', '-r', '-e', '8', image]
  }
}

function isSocket(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() ?? false
}
