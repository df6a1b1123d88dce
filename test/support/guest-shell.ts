/** A shell on the console of a booted system: commands in, what they print and their status out. */
import type { ConsoleMatch, VmConsole } from './vm-console.ts'

export interface CommandOutput {
  readonly status: number
  readonly output: string
}

/** An emulated machine that has just booted is still busy. */
const COMMAND_TIMEOUT_MS = 60_000

/** The prompt agetty and login show; the system's name stands before it. */
export const LOGIN_PROMPT: RegExp = /(?:^|\n)(?<hostname>[A-Za-z0-9.-]+) login: /

export class GuestShell {
  readonly #console: VmConsole
  #count = 0

  private constructor(console: VmConsole) {
    this.#console = console
  }

  /** Logs in as root, who has no password, at a prompt that is there. */
  static async login(console: VmConsole): Promise<GuestShell> {
    console.send('root\n')
    await console.expect(/# $/, { timeoutMs: COMMAND_TIMEOUT_MS })
    return await GuestShell.start(console)
  }

  /** At the prompt of a shell of root. */
  static async start(console: VmConsole): Promise<GuestShell> {
    const shell = new GuestShell(console)
    // A shell without line editing, so that the console shows nothing but what commands print.
    console.send('exec env PS1= PAGER=cat TERM=dumb SYSTEMD_COLORS=0 sh\n')
    console.send('stty -echo cols 1000; set +m\n')
    await shell.run(':')
    return shell
  }

  async run(command: string, timeoutMs: number = COMMAND_TIMEOUT_MS): Promise<CommandOutput> {
    this.#count += 1
    const [begin, end] = [`begin-${this.#count}`, `end-${this.#count}`]
    // The quotes keep an echo of the line from being taken for its output.
    this.#console.send(
      `echo 'beg''in-${this.#count}'; ${command}\necho 'e''nd-${this.#count}' $?\n`,
    )
    const pattern = new RegExp(`${begin}\\n(?<output>[^]*?)${end} (?<status>\\d+)\\n`)
    const match: ConsoleMatch = await this.#console.expect(pattern, { timeoutMs })
    return { status: Number(match.groups['status']), output: match.groups['output'] ?? '' }
  }

  /** Runs a command that must succeed. Returns what it printed, without the last line break. */
  async read(command: string, timeoutMs?: number): Promise<string> {
    const { status, output } = await this.run(command, timeoutMs)
    if (status !== 0) throw new Error(`${command}: status ${status}:\n${output}`)
    return output.replace(/\n$/, '')
  }

  /** Types a command whose end nobody can wait for here, as `systemctl reboot`. */
  send(command: string): void {
    this.#console.send(`${command}\n`)
  }
}
