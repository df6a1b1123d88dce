/**
 * What tests of the supervisor do inside a guest: a supervisor with an agent that serves a file on a
 * RAM disk as /dev/nbd0.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, readFileSync } from 'node:fs'
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { eventually } from './eventually.ts'

export const DEVICE = '/dev/nbd0'
/** What the agent serves. */
export const DISK = '/run/disk.img'
export const DISK_BYTES = 64 * 1024 * 1024
export const AGENT_STATE = '/run/agent.json'
/** While it exists agents leave a process behind that holds their NBD socket; its id is in it. */
export const HOLD_SOCKET = '/run/hold-socket'
/** While it exists agents detach the device of the one before. */
export const DETACH_FIRST = '/run/detach-first'
/** While it exists agents exit at once, with the status that is in it. */
export const CRASH = '/run/crash'
export const SUPERVISOR_LOG = '/run/supervisor.log'
export const BACKEND_ID = 'bootwire:test'

const COMPILE_CACHE = '/run/compile-cache'

/** Node with our sources is up in one second, and in ten where others use the machine. */
const RECOVERY_TIMEOUT_MS = 60_000

/** Put before an agent, so that it can crash sooner than Node is up. */
export const CRASHING: readonly string[] = [
  '/bin/sh',
  '-c',
  `[ ! -e ${CRASH} ] || exit "$(cat ${CRASH})"; exec "$@"`,
  'sh',
]

export interface AgentState {
  readonly pid: number
  readonly restarts: number
  /** What the supervisor said last. */
  readonly answer: string
  /** When it asked for another size than that of the device, being not the first agent. */
  readonly otherSize?: string | undefined
  /** When it asked once more after it had its device. */
  readonly again?: string | undefined
}

export class GuestSupervisor {
  readonly #child: ChildProcess
  readonly exited: Promise<number | null>

  /** A heap as small as that of the agent in an initramfs, so that it is soon full. */
  static readonly #nodeOptions = ['--max-old-space-size=32']

  private constructor(program: string, wrapper: readonly string[]) {
    const agent = join(import.meta.dirname, 'supervisor-agent.ts')
    const node = [
      process.execPath,
      ...GuestSupervisor.#nodeOptions,
      agent,
      DISK,
      String(DISK_BYTES),
    ]
    this.#child = spawn(program, ['-l', SUPERVISOR_LOG, '--', ...wrapper, ...node], {
      stdio: ['ignore', 'inherit', 'inherit'],
      // Without types to strip an agent is up about as soon as the bundled one of an initramfs.
      env: { ...process.env, NODE_COMPILE_CACHE: COMPILE_CACHE },
    })
    this.exited = once(this.#child, 'exit').then(([status]) => status as number | null)
  }

  /** Makes the disk, empty, and starts the supervisor; returns when the device is there. */
  static async start(program: string, wrapper: readonly string[] = []): Promise<GuestSupervisor> {
    await writeFile(DISK, '')
    await truncate(DISK, DISK_BYTES)
    const supervisor = new GuestSupervisor(program, wrapper)
    await supervisor.agent('ok connected')
    return supervisor
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Waits for an agent with this answer that is none of those before. */
  async agent(answer: string, restartsMin = 0): Promise<AgentState> {
    let state: AgentState | undefined
    await eventually(
      `an agent that was answered "${answer}"`,
      async () => {
        const text = await readFile(AGENT_STATE, 'utf8').catch(() => 'null')
        state = (JSON.parse(text) as AgentState | null) ?? undefined
        return state !== undefined && state.restarts >= restartsMin && state.answer === answer
      },
      RECOVERY_TIMEOUT_MS,
    )
    if (state === undefined) throw new Error('unreachable')
    return state
  }

  /** Has the agent detach, and returns the exit status of the supervisor. */
  async detach(): Promise<number | null> {
    const { pid } = JSON.parse(readFileSync(AGENT_STATE, 'utf8')) as AgentState
    process.kill(pid, 'SIGHUP')
    return await this.exited
  }
}

export async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const part of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    hash.update(part as Buffer)
  }
  return hash.digest('hex')
}

/** Requests of the device that were answered, reads and writes. */
export async function completedRequests(): Promise<{ reads: number; writes: number }> {
  const fields = (await readFile('/sys/block/nbd0/stat', 'utf8')).trim().split(/\s+/).map(Number)
  return { reads: fields[0] ?? 0, writes: fields[4] ?? 0 }
}

/** The flags of every thread of a process (PF_… of the kernel). */
export async function threadFlags(pid: number): Promise<number[]> {
  const threads = await readdir(`/proc/${pid}/task`)
  return await Promise.all(
    threads.map(async (thread) => {
      const stat = await readFile(`/proc/${pid}/task/${thread}/stat`, 'utf8')
      // The name, in parentheses, may hold spaces; the flags are the seventh field behind it.
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[6])
    }),
  )
}
