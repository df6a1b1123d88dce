/** Running the system's own tools, with failures that name the tool, what it said and its package. */
import { type ChildProcess, spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'

/** Debian's package of each tool used. */
const PACKAGES = {
  blkid: 'util-linux',
  blockdev: 'util-linux',
  cpio: 'cpio',
  depmod: 'kmod',
  guestmount: 'guestmount',
  gzip: 'gzip',
  mcopy: 'mtools',
  mformat: 'mtools',
  mmd: 'mtools',
  modinfo: 'kmod',
  perl: 'perl-base',
  'qemu-img': 'qemu-utils',
  sfdisk: 'fdisk',
  sh: 'dash',
  syslinux: 'syslinux',
  unshare: 'util-linux',
  xorriso: 'xorriso',
  xz: 'xz-utils',
  zstd: 'zstd',
} as const
export type ToolName = keyof typeof PACKAGES

/** Distributions keep these out of the PATH of ordinary users. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/** The slowest run is packing all drivers of a kernel: half a minute on a slow machine. */
const RUN_TIMEOUT_MS = 10 * 60_000

/** Lines of a failed tool that a person is shown. */
const SHOWN_LINES = 3

export interface ToolRun {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface ToolOptions {
  readonly signal: AbortSignal
  /** Given to the tool as its standard input. */
  readonly input?: string
  readonly cwd?: string
  /** Exit statuses that are an answer, not a failure; 0 always is. */
  readonly answers?: readonly number[]
}

/**
 * Runs a tool to its end.
 * @throws {BootwireError} TOOL_MISSING, STORE_FULL, TOOL_FAILED with what it wrote to stderr
 */
export async function runTool(
  tool: ToolName,
  args: readonly string[],
  options: ToolOptions,
): Promise<ToolRun> {
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(RUN_TIMEOUT_MS)])
  const child = startTool(tool, args, { signal, ...(options.cwd && { cwd: options.cwd }) })
  const { stdin, stdout, stderr } = child
  invariant(stdin !== null && stdout !== null && stderr !== null, 'the streams are pipes')
  // A tool that ends early breaks the pipe; its status tells why.
  stdin.on('error', () => undefined)
  stdin.end(options.input ?? '')
  const [status, out, err] = await Promise.all([exitOf(tool, child), text(stdout), text(stderr)])
  options.signal.throwIfAborted()
  if (status !== 0 && !options.answers?.includes(status)) throw toolFailure(tool, status, err)
  return { status, stdout: out, stderr: err }
}

/** Starts a tool with pipes for its streams; its messages are in English. */
export function startTool(
  tool: ToolName,
  args: readonly string[],
  options: { readonly signal?: AbortSignal; readonly cwd?: string } = {},
): ChildProcess {
  const path = [process.env['PATH'], ...SYSTEM_FOLDERS].join(':')
  return spawn(tool, args, {
    ...options,
    env: { ...process.env, PATH: path, LC_ALL: 'C.UTF-8' },
    stdio: ['pipe', 'pipe', 'pipe'],
    killSignal: 'SIGKILL',
  })
}

/** Returns the exit status, 128 + signal when one ended it. @throws {BootwireError} TOOL_MISSING */
export async function exitOf(tool: ToolName, child: ChildProcess): Promise<number> {
  return await new Promise((resolve, reject) => {
    child.once('error', (error) => {
      const isMissing = 'code' in error && error.code === 'ENOENT'
      reject(isMissing ? missingTool(tool, error) : error)
    })
    child.once('close', (status) => resolve(status ?? 128))
  })
}

function missingTool(tool: ToolName, cause: Error): BootwireError {
  return new BootwireError(
    'TOOL_MISSING',
    `Cannot find the program "${tool}": expected it from the package ${PACKAGES[tool]}`,
    { cause },
  )
}

export function toolFailure(tool: ToolName, status: number, stderr: string): BootwireError {
  const said = lastLines(stderr) || 'it said nothing'
  if (/no space left on device|disk quota exceeded/i.test(stderr)) {
    return new BootwireError('STORE_FULL', `Cannot finish "${tool}": the disk is full: ${said}`)
  }
  return new BootwireError(
    'TOOL_FAILED',
    `Cannot go on: "${tool}" ended with status ${status}: ${said}`,
  )
}

/** What a tool said, on one line: its errors, or else the end of it. */
export function lastLines(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim())
  const errors = lines.filter((line) => /error|cannot|not found|failed/i.test(line))
  const told = errors.length > 0 ? errors : lines.filter((line) => line !== '')
  return told.slice(-SHOWN_LINES).join('; ')
}
