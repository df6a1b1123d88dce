/** The program `bootwire` as its users run it: a server process, and commands beside it. */
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const MAIN = join(import.meta.dirname, '../../server/main.ts')

/** Starting takes a second on a busy machine; longer means that it hangs. */
const READY_TIMEOUT_MS = 30_000

const READY_LINE =
  /^bootwire: ready http:\/\/(?<address>[^ ]+):(?<http>\d+) tls (?<tls>\d+) pin (?<pin>[\w-]{43})$/

/** Unless it is told otherwise. */
const LISTEN: Readonly<Record<string, string>> = {
  '--address': '127.0.0.1',
  '--http-port': '0',
  '--tls-port': '0',
}

export interface CommandResult {
  readonly status: number | null
  readonly stdout: string
  /** The same, as it came. */
  readonly bytes: Buffer
  readonly stderr: string
}

export interface ServerProcess extends AsyncDisposable {
  readonly httpPort: number
  readonly tlsPort: number
  readonly pin: string
  /** Everything it wrote to stderr so far. */
  readonly log: () => string
  /** Runs a command against this server. */
  readonly run: (...args: string[]) => Promise<CommandResult>
  /** Starts a command against this server, with its standard input open. */
  readonly start: (...args: string[]) => RunningCommand
  /** Runs a command that must succeed and returns its JSON. */
  readonly json: <Result>(...args: string[]) => Promise<Result>
  /** Sends a signal that it survives, as SIGSTOP. */
  readonly signal: (signal: NodeJS.Signals) => void
  /** Sends the signal and returns the exit status, null when the signal killed it. */
  readonly stop: (signal: NodeJS.Signals) => Promise<number | null>
}

/** A command while it runs. */
export interface RunningCommand {
  readonly child: ChildProcessWithoutNullStreams
  /** What it wrote to stderr so far. */
  readonly said: () => string
  readonly ended: Promise<CommandResult>
}

/** Runs one command line to its end. */
export async function runBootwire(...args: string[]): Promise<CommandResult> {
  const { child, ended } = startBootwire(...args)
  child.stdin.end()
  return await ended
}

/** Starts one command line, with its standard input open. */
export function startBootwire(...args: string[]): RunningCommand {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: 'pipe' })
  const stdout: Buffer[] = []
  let stderr = ''
  child.stdout.on('data', (part: Buffer) => stdout.push(part))
  child.stderr.on('data', (part) => (stderr += String(part)))
  child.stdin.on('error', () => undefined) // its end tells more
  const ended = once(child, 'close').then(([status]) => {
    const bytes = Buffer.concat(stdout)
    return { status: status as number | null, stdout: bytes.toString(), bytes, stderr }
  })
  return { child, said: () => stderr, ended }
}

/** Starts a server, on free ports if not told others, and returns when it is ready. */
export async function startServerProcess(
  stateFolder: string,
  ...args: string[]
): Promise<ServerProcess> {
  return await startServerProcessIn((command) => [...command], stateFolder, ...args)
}

/** The same, where the command made of its command runs it, as in a network of its own. */
export async function startServerProcessIn(
  inside: (command: readonly string[]) => string[],
  stateFolder: string,
  ...args: string[]
): Promise<ServerProcess> {
  const listen = Object.entries(LISTEN).filter(([option]) => !args.includes(option))
  const command = [
    process.execPath,
    MAIN,
    'serve',
    '--state',
    stateFolder,
    ...listen.flat(),
    ...args,
  ]
  // Should this process be killed, the server goes with it.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...inside(command)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let log = ''
  child.stderr.on('data', (part) => (log += String(part)))
  const ready = await readyLine(child, () => log)
  const run = (...command: string[]) => runBootwire('--state', stateFolder, ...command)
  const stop = (signal: NodeJS.Signals) => stopProcess(child, signal)
  return {
    httpPort: Number(ready['http']),
    tlsPort: Number(ready['tls']),
    pin: ready['pin'] ?? '',
    log: () => log,
    run,
    start: (...command) => startBootwire('--state', stateFolder, ...command),
    json: async <Result>(...command: string[]) => {
      const result = await run(...command, '--json')
      if (result.status !== 0) throw new Error(`${command.join(' ')}: ${result.stderr}`)
      return JSON.parse(result.stdout) as Result
    },
    signal: (signal) => void child.kill(signal),
    stop,
    [Symbol.asyncDispose]: async () => void (await stop('SIGKILL')),
  }
}

async function readyLine(
  child: ChildProcess,
  log: () => string,
): Promise<Readonly<Record<string, string>>> {
  const timer = setTimeout(() => child.kill('SIGKILL'), READY_TIMEOUT_MS)
  try {
    if (child.stdout === null) throw new Error('the server has no stdout')
    for await (const line of createInterface({ input: child.stdout })) {
      const groups = READY_LINE.exec(line)?.groups
      if (groups !== undefined) return groups
    }
  } finally {
    clearTimeout(timer)
  }
  throw new Error(`the server did not become ready: ${log()}`)
}

async function stopProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill(signal)
    await once(child, 'exit')
  }
  return child.exitCode
}
