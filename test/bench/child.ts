/** Processes of a bench: each ends with it, however that ends, and says what it has to say in lines. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { invariant } from '#shared/invariant.ts'

/** Ticks of /proc/PID/stat: USER_HZ, which is 100 on every Linux. */
const TICK_SECONDS = 0.01

export class BenchProcess implements AsyncDisposable {
  readonly pid: number
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #exited: Promise<unknown>

  private constructor(child: ChildProcess, pid: number) {
    invariant(child.stdout !== null, 'stdout is a pipe')
    this.#child = child
    this.pid = pid
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    this.#exited = once(child, 'exit')
  }

  static async start(
    command: readonly string[],
    stderr: 'inherit' | number = 'inherit',
  ): Promise<BenchProcess> {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
      stdio: ['pipe', 'pipe', stderr],
    })
    await once(child, 'spawn')
    invariant(child.pid !== undefined, 'a process that was started has a number')
    return new BenchProcess(child, child.pid)
  }

  get hasExited(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** Returns the next line it writes. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next()
    if (done === true)
      throw new Error(`a process of the bench ended: ${this.#child.spawnargs.join(' ')}`)
    return value
  }

  /** Returns what the next line says. */
  async json<T>(): Promise<T> {
    return JSON.parse(await this.line()) as T
  }

  tell(line: string): void {
    this.#child.stdin?.write(`${line}\n`)
  }

  /** Nothing more is told. */
  end(): void {
    this.#child.stdin?.end()
  }

  /** CPU time so far, of all its threads. */
  cpuSeconds(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) * TICK_SECONDS
  }

  /** Memory that is its own or shared with others of its kind, in bytes. */
  residentBytes(): number {
    const found = /^VmRSS:\s+(?<kb>\d+) kB$/m.exec(
      readFileSync(`/proc/${this.pid}/status`, 'latin1'),
    )
    return Number(found?.groups?.['kb']) * 1024
  }

  async exited(): Promise<void> {
    await this.#exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.hasExited) this.#child.kill('SIGTERM')
    await this.#exited
  }
}

/** A program of this folder, run by the Node that runs this one. */
export function benchProgram(name: string, args: readonly string[]): string[] {
  return [process.execPath, `${import.meta.dirname}/${name}`, ...args]
}
