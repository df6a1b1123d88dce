/** Agents of the benches, each a process on the client's side of a link. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { agentBundle } from '#test/support/agent-bundle.ts'
import type { AgentOptions, AgentStats } from './agent-process.ts'
import type { BenchServer } from './bench-server.ts'
import { BenchProcess } from './child.ts'
import type { Link } from './link.ts'
import type { NbdAddress } from './nbd-reader.ts'

/** One client of all benches that need but one. */
export const BENCH_MAC = '52:54:00:00:00:01'

export type AgentSetup = Pick<AgentOptions, 'vdisk' | 'isBoot' | 'cachePath'>

export class BenchAgent implements AsyncDisposable {
  readonly process: BenchProcess
  readonly #folder: string

  private constructor(process: BenchProcess, folder: string) {
    this.process = process
    this.#folder = folder
  }

  /** It is there, and waits to be told to open the vDisk. */
  static async start(link: Link, server: BenchServer, setup: AgentSetup): Promise<BenchAgent> {
    const folder = await mkdtemp(join(tmpdir(), 'bootwire-agent-'))
    const { host, port, pin } = server
    const programFolder = await agentBundle()
    const where = { host, port, pin, mac: BENCH_MAC, folder, programFolder }
    const options: AgentOptions = { ...where, ...setup }
    const main = join(programFolder, 'agent-process.cjs')
    const program = [process.execPath, main, JSON.stringify(options)]
    const agent = new BenchAgent(await BenchProcess.start(link.client.command(program)), folder)
    await agent.process.line()
    return agent
  }

  /** Opens the vDisk; returns where it can be read. */
  async open(): Promise<NbdAddress> {
    const { address } = await this.#ask<{ address: NbdAddress }>('go')
    return address
  }

  /** Ends the boot, as a login prompt does: what it has read is told to the server. */
  async login(): Promise<void> {
    await this.#ask('login')
  }

  /** Has all of the version brought to the local disk. */
  async hydrate(): Promise<void> {
    await this.#ask('hydrate')
  }

  async stats(): Promise<AgentStats> {
    return await this.#ask<AgentStats>('stats')
  }

  async #ask<T>(command: string): Promise<T> {
    this.process.tell(command)
    return await this.process.json<T>()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]()
    await rm(this.#folder, { recursive: true, force: true })
  }
}
