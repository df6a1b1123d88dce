/**
 * User-mode Linux: a real kernel, with its nbd driver, as a process of the host. It is up in two
 * seconds and runs programs at nearly the host's speed. Its root is the host's file system, read
 * only, so a program and its files need no image; /tmp and /run are its own. It has one processor and
 * no network.
 *
 * Its programs are processes of the host, in a PID namespace of their own: they end with its kernel,
 * and that with the process that started it, however it ends. Needs root.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CACHE_FOLDER } from './build-cache.ts'
import { VmConsole } from './vm-console.ts'

export interface UmlOptions {
  /** Names the log of the console. */
  readonly name: string
  /** Program and arguments; none of them may contain a space. */
  readonly command: readonly string[]
  readonly memoryMiB?: number
  /** Added to its kernel's command line. */
  readonly kernelParameters?: readonly string[]
  /** A file that is its disk, `ubda`. */
  readonly diskPath?: string
}

/** Node with a small heap and a few workers, and a RAM disk beside it. */
const MEMORY_MIB = 512

const NAMESPACE = ['--pdeathsig', 'KILL', 'unshare', '--pid', '--fork', '--kill-child']
const INIT = join(import.meta.dirname, 'uml-init.sh')
const LOG_FOLDER = join(CACHE_FOLDER, 'logs')
const END = /uml: the program ended with status (?<status>\d+)/

export class UmlMachine implements AsyncDisposable {
  readonly console: VmConsole
  readonly #child: ChildProcess
  readonly #closed: Promise<void>
  /** Where the kernel keeps its management socket; nobody uses it, but it has no way not to. */
  readonly #folder = mkdtempSync(join(tmpdir(), 'bootwire-uml-'))

  private constructor(options: UmlOptions) {
    mkdirSync(LOG_FOLDER, { recursive: true })
    this.console = new VmConsole(join(LOG_FOLDER, `${options.name}.log`), () => undefined)
    this.#child = spawn(
      'setpriv',
      [...NAMESPACE, 'linux.uml', ...umlArguments(options, this.#folder)],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    const receive = (bytes: Buffer) => this.console.receive(bytes)
    this.#child.stdout?.on('data', receive)
    this.#child.stderr?.on('data', receive)
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#closed = promise
    this.#child.once('error', (error) => {
      this.console.end(error.message)
      resolve()
    })
    this.#child.once('close', () => {
      this.console.end('User-mode Linux ended')
      resolve()
    })
  }

  static start(options: UmlOptions): UmlMachine {
    return new UmlMachine(options)
  }

  /** Waits until the program has ended, and returns its exit status. */
  async programStatus(timeoutMs: number): Promise<number> {
    const { groups } = await this.console.expect(END, { timeoutMs })
    return Number(groups['status'])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#closed
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function umlArguments(options: UmlOptions, folder: string): string[] {
  return [
    `mem=${options.memoryMiB ?? MEMORY_MIB}M`,
    `uml_dir=${folder}`,
    'root=98:0',
    'rootfstype=hostfs',
    'rootflags=/',
    'ro',
    'con=null',
    'con0=null,fd:1',
    'panic=-1',
    ...(options.diskPath === undefined ? [] : [`ubda=${options.diskPath}`]),
    ...(options.kernelParameters ?? []),
    `init=${INIT}`,
    '--',
    ...options.command,
  ]
}
