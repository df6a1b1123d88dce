/** Runs a program to its end, for the set-up of tests and of the demo. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** The slowest is an mmdebstrap on a slow network. */
const TIMEOUT_MS = 20 * 60_000

/** Enough for the output of any tool used here. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024

const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/** Lines of a failed program that are shown. */
const SHOWN_LINES = 15

/**
 * Returns what the program wrote to stdout.
 * @throws an error that names the program and holds the end of what it said
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly signal?: AbortSignal } = {},
): Promise<string> {
  const path = [process.env['PATH'], ...SYSTEM_FOLDERS].join(':')
  try {
    // Should this process be killed, the program is told to end.
    const command = ['--pdeathsig', 'TERM', program, ...args]
    const { stdout } = await promisify(execFile)('setpriv', command, {
      timeout: TIMEOUT_MS,
      ...options,
      maxBuffer: OUTPUT_BYTES_MAX,
      env: { ...process.env, PATH: path, LC_ALL: 'C.UTF-8' },
    })
    return stdout
  } catch (error) {
    options.signal?.throwIfAborted()
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error)
    const end = said.trim().split('\n').slice(-SHOWN_LINES).join('\n')
    throw new Error(`Cannot go on: ${program} failed:\n${end}`, { cause: error })
  }
}

/** Runs lines of shell that stop at the first failure; `args` are $1, $2, … */
export async function runScript(
  script: string,
  args: readonly string[] = [],
  options: { readonly cwd?: string; readonly signal?: AbortSignal } = {},
): Promise<string> {
  return await runProgram('sh', ['-euc', script, 'sh', ...args], options)
}
