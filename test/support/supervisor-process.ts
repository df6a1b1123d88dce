/** A supervisor on this machine, with an agent that a test writes down as a few lines of code. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ensureSupervisor } from './supervisor-binary.ts'
import { createTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'

const CONTROL_MODULE = join(import.meta.dirname, 'supervisor-control.ts')

export interface SupervisorOptions {
  /** Given to the supervisor before `--`. */
  readonly options?: readonly string[]
  /** Put before the supervisor: a program that executes it. */
  readonly wrapper?: readonly string[]
  /** False: nobody reads what the supervisor and its agent write to stderr. */
  readonly readStderr?: boolean
}

export class SupervisorProcess implements AsyncDisposable {
  readonly exited: Promise<number | null>
  readonly #child: ChildProcess
  readonly #folder: TemporaryFolder
  readonly #lines: AsyncIterator<string>
  #stderr = ''

  private constructor(child: ChildProcess, folder: TemporaryFolder, readStderr: boolean) {
    const { stdout, stderr } = child
    if (stdout === null || stderr === null) throw new Error('no pipes to the supervisor')
    this.#child = child
    this.#folder = folder
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]()
    if (readStderr) stderr.on('data', (part) => (this.#stderr += String(part)))
    this.exited = once(child, 'exit').then(([status]) => status as number | null)
  }

  /** The command is the agent, with its full path. */
  static async run(
    command: readonly string[],
    options: SupervisorOptions = {},
  ): Promise<SupervisorProcess> {
    return SupervisorProcess.#spawn(command, options, await createTemporaryFolder())
  }

  /**
   * The agent is a module with `control`, a SupervisorControl, `restarts`, and `say`, which writes a
   * line that `line` returns. It ends with its supervisor, unless it does not use `control`.
   */
  static async runScript(
    source: string,
    options: SupervisorOptions = {},
  ): Promise<SupervisorProcess> {
    const folder = await createTemporaryFolder()
    const path = join(folder.path, 'agent.mts')
    await writeFile(path, PROLOGUE + source)
    return SupervisorProcess.#spawn([process.execPath, path], options, folder)
  }

  static async #spawn(
    command: readonly string[],
    { options = [], wrapper = [], readStderr = true }: SupervisorOptions,
    folder: TemporaryFolder,
  ): Promise<SupervisorProcess> {
    const program = await ensureSupervisor()
    // Should this process be killed, the supervisor goes with it.
    const line = ['--pdeathsig', 'KILL', ...wrapper, program, ...options, '--', ...command]
    // A descriptor that is nothing to the supervisor, as a careless parent would leave it one.
    const child = spawn('setpriv', line, {
      stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
    })
    return new SupervisorProcess(child, folder, readStderr)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Everything that supervisor and agent wrote to stderr so far. */
  get stderr(): string {
    return this.#stderr
  }

  /** Returns the next line of the agent's stdout. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next()
    if (done === true) throw new Error(`no line, and no more will come: ${this.#stderr}`)
    return value
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const agents = childrenOf(this.pid)
      this.#child.kill('SIGKILL')
      await this.exited
      for (const agent of agents) kill(agent)
    }
    await this.#folder[Symbol.asyncDispose]()
  }
}

const PROLOGUE = `
import { SupervisorControl } from ${JSON.stringify(CONTROL_MODULE)}
const control = new SupervisorControl()
const restarts = Number(process.env.BOOTWIRE_RESTARTS)
const say = (line) => process.stdout.write(line + '\\n')
`

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}
