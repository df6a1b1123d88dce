/**
 * A console with a real terminal of the kernel: a pty that `script` makes and holds. What the agent
 * writes to `path` comes out here, and keys typed here come in there.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { eventually } from '#test/support/eventually.ts'

/**
 * Gives the terminal up as its controlling one (TIOCNOTTY), since a console is nobody's either; says
 * which it is, and keeps it without reading from it.
 */
const HOLDER = `exec perl -MPOSIX=ttyname -e '
    $SIG{HUP} = "IGNORE";
    ioctl(STDIN, 0x5422, 0) or die;
    syswrite(STDOUT, ttyname(0) . " $$\\n");
    sleep'`

const HOLDS = /^(?<path>\/dev\/pts\/\d+) (?<holderPid>\d+)\r?\n/

export class FakeConsolePty implements AsyncDisposable {
  readonly path: string
  readonly #script: ChildProcessWithoutNullStreams
  readonly #holderPid: number
  #shown = ''

  private constructor(path: string, script: ChildProcessWithoutNullStreams, holderPid: number) {
    this.path = path
    this.#script = script
    this.#holderPid = holderPid
    script.stdout.on('data', (bytes: Buffer) => {
      this.#shown += bytes.toString('latin1')
    })
  }

  static async open(): Promise<FakeConsolePty> {
    const script = spawn('script', ['-qfc', HOLDER, '/dev/null'])
    let said = ''
    for await (const bytes of script.stdout.iterator({ destroyOnReturn: false })) {
      said += String(bytes)
      const { path, holderPid } = HOLDS.exec(said)?.groups ?? {}
      if (path !== undefined) return new FakeConsolePty(path, script, Number(holderPid))
    }
    throw new Error(`script made no terminal: ${said}`)
  }

  /** All that came out so far, or since `forget`. */
  get shown(): string {
    return this.#shown
  }

  forget(): void {
    this.#shown = ''
  }

  async waitFor(pattern: RegExp): Promise<void> {
    await eventually(`the console shows ${String(pattern)}`, () => pattern.test(this.#shown))
  }

  type(keys: string): void {
    this.#script.stdin.write(keys, 'latin1')
  }

  /** From now on the other end takes nothing, as a stopped serial line. */
  stop(): void {
    this.#script.kill('SIGSTOP')
  }

  goOn(): void {
    this.#script.kill('SIGCONT')
  }

  /** The other end goes away, as a pulled adapter. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#script.exitCode !== null || this.#script.signalCode !== null) return
    const gone = once(this.#script, 'close')
    this.#script.kill('SIGKILL')
    await gone
    // Without a controlling terminal it does not hear that its terminal is gone.
    process.kill(this.#holderPid, 'SIGKILL')
  }
}
