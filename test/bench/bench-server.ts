/**
 * The product's server as the benches run it: `bootwire serve` on the server's side of a link, with a
 * state folder that outlives it, and its command line.
 */
import { mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { invariant } from '#shared/invariant.ts'
import { runBootwire } from '#test/support/server-process.ts'
import { BenchProcess } from './child.ts'
import { type Link, SERVER_ADDRESS } from './link.ts'

const MAIN = join(import.meta.dirname, '../../server/main.ts')

const READY_LINE = /^bootwire: ready \S+ tls (?<port>\d+) pin (?<pin>[\w-]{43})$/

export interface BenchServerOptions {
  readonly link: Link
  readonly stateFolder: string
  /** What machines nobody knows are given. */
  readonly vdisk: string
}

export class BenchServer implements AsyncDisposable {
  readonly process: BenchProcess
  readonly host = SERVER_ADDRESS
  readonly port: number
  readonly pin: string
  readonly #stateFolder: string

  private constructor(process: BenchProcess, groups: Ready, stateFolder: string) {
    this.process = process
    this.port = Number(groups.port)
    this.pin = groups.pin
    this.#stateFolder = stateFolder
  }

  static async start({ link, stateFolder, vdisk }: BenchServerOptions): Promise<BenchServer> {
    const ports = ['--http-port', '0', '--tls-port', '0', '--address', SERVER_ADDRESS]
    const clients = ['--unknown-clients', `vdisk:${vdisk}`]
    const serve = [process.execPath, MAIN, 'serve', '--state', stateFolder, ...ports, ...clients]
    await mkdir(stateFolder, { recursive: true })
    const log = await open(join(stateFolder, 'server.log'), 'a')
    const child = await BenchProcess.start(link.server.command(serve), log.fd)
    await log.close()
    const ready = READY_LINE.exec(await child.line())?.groups as Ready | undefined
    invariant(ready !== undefined, 'the server says when it is ready')
    return new BenchServer(child, ready, stateFolder)
  }

  /** Runs a command of the product that must succeed; returns what it says. */
  async run(...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await runBootwire('--state', this.#stateFolder, ...args)
    if (status !== 0) throw new Error(`bootwire ${args.join(' ')}: ${stderr}`)
    return stdout
  }

  async json<T>(...args: readonly string[]): Promise<T> {
    return JSON.parse(await this.run(...args, '--json')) as T
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]()
  }
}

interface Ready {
  readonly port: string
  readonly pin: string
}
