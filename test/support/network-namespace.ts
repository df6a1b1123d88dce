/**
 * A network of its own for programs: with a loopback interface, and whatever is moved into it. It is
 * held by a process and goes away with it and with this one, however that ends. Needs root.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readlinkSync } from 'node:fs'
import { invariant } from '#shared/invariant.ts'
import { runProgram, runScript } from './child-run.ts'
import { eventually } from './eventually.ts'

export interface InterfaceBytes {
  readonly received: number
  readonly sent: number
}

export class NetworkNamespace implements AsyncDisposable {
  readonly pid: number
  readonly #holder: ChildProcess

  private constructor(holder: ChildProcess, pid: number) {
    this.#holder = holder
    this.pid = pid
  }

  static async create(): Promise<NetworkNamespace> {
    const command = ['--pdeathsig', 'KILL', 'unshare', '--net', 'sleep', 'infinity']
    const holder = spawn('setpriv', command, { stdio: ['ignore', 'ignore', 'inherit'] })
    await once(holder, 'spawn')
    invariant(holder.pid !== undefined, 'a process that was started has a number')
    const namespace = new NetworkNamespace(holder, holder.pid)
    const own = readlinkSync('/proc/self/ns/net')
    await eventually('the namespace is there', () => readlinkSync(namespace.#path) !== own)
    await namespace.runScript('ip link set lo up')
    return namespace
  }

  get #path(): string {
    return `/proc/${this.pid}/ns/net`
  }

  /** The same command, inside. */
  command(command: readonly string[]): string[] {
    return ['nsenter', `--net=${this.#path}`, ...command]
  }

  /** Runs lines of shell to their end, inside; `args` are $1, $2, … */
  async runScript(script: string, args: readonly string[] = []): Promise<string> {
    const [program = '', ...rest] = this.command(['sh', '-euc', script, 'sh', ...args])
    return await runProgram(program, rest)
  }

  /** Takes an interface of the namespace that the caller is in. */
  async takeInterface(name: string): Promise<void> {
    await runScript('ip link set "$1" netns "$2"', [name, String(this.pid)])
  }

  /** What has gone over an interface, its headers included. */
  interfaceBytes(name: string): InterfaceBytes {
    const line = readFileSync(`/proc/${this.pid}/net/dev`, 'latin1')
      .split('\n')
      .find((it) => it.trimStart().startsWith(`${name}:`))
    invariant(line !== undefined, `there is an interface ${name}`)
    const counters = line
      .slice(line.indexOf(':') + 1)
      .trim()
      .split(/\s+/)
      .map(Number)
    return { received: counters[0] ?? Number.NaN, sent: counters[8] ?? Number.NaN }
  }

  /**
   * What the TCP connections with a port of another host have moved so far, in both directions, with
   * TLS and all above it, without headers below.
   */
  async tcpBytes(port: number): Promise<number> {
    const shown = await this.runScript('ss --no-header --tcp --info "dport = :$1"', [String(port)])
    const moved = shown.matchAll(/\bbytes_(?:sent|received):(?<bytes>\d+)/g)
    return [...moved].reduce((sum, { groups }) => sum + Number(groups?.['bytes']), 0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return
    this.#holder.kill('SIGKILL')
    await once(this.#holder, 'exit')
  }
}
