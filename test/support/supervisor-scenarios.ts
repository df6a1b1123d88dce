/**
 * What supervisor.test.ts has done in a guest. Prints what came of it as one line of JSON; the test
 * outside judges it.
 *
 * usage: supervisor-scenarios.ts NAME SUPERVISOR
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { runProgram } from './child-run.ts'
import { eventually } from './eventually.ts'
import {
  CRASH,
  CRASHING,
  completedRequests,
  DETACH_FIRST,
  DEVICE,
  DISK,
  DISK_BYTES,
  GuestSupervisor,
  HOLD_SOCKET,
  hashOf,
  SUPERVISOR_LOG,
  threadFlags,
} from './supervisor-guest.ts'

/** How many requests must be answered between two deaths of an agent, so that each meets some. */
const REQUESTS_BETWEEN_KILLS = 500
const KILLS = 10
const PROGRESS_TIMEOUT_MS = 60_000
/** Pauses of 0 to 1000 ms. */
const CRASHES_TIMEOUT_MS = 30_000

const scenarios: Readonly<Record<string, (program: string) => Promise<unknown>>> = {
  attach,
  signals,
  kills,
  'heap-full': heapFull,
  'crash-loop': crashLoop,
  'detach-first': detachFirst,
  'socket-held': socketHeld,
  'kexec-nothing': kexecNothing,
}

const [name = '', program = ''] = process.argv.slice(2)
const run = scenarios[name]
if (run === undefined) throw new Error(`no scenario "${name}"`)
process.stdout.write(`RESULT ${JSON.stringify(await run(program))}\n`)

async function attach(program: string): Promise<unknown> {
  const supervisor = await GuestSupervisor.start(program)
  const { pid } = await supervisor.agent('ok connected')
  await writeDevice()
  const result = {
    sectors: Number(await readFile('/sys/block/nbd0/size', 'utf8')),
    backend: (await readFile('/sys/block/nbd0/backend', 'utf8')).trim(),
    same: (await hashOf(DEVICE)) === (await hashOf(DISK)),
    supervisor: await storageDaemon(supervisor.pid),
    agent: await storageDaemon(pid),
    supervisorFiles: await openFiles(supervisor.pid),
    status: await supervisor.detach(),
    connected: existsSync('/sys/block/nbd0/pid'),
    sectorsAfter: Number(await readFile('/sys/block/nbd0/size', 'utf8')),
  }
  // The device is free for the next one.
  const next = await GuestSupervisor.start(program)
  return { ...result, nextStatus: await next.detach() }
}

/** What systemd does at switch-root and at shutdown: every process but the caller's is stopped. */
async function signals(program: string): Promise<unknown> {
  const supervisor = await GuestSupervisor.start(program)
  const fio = startFio('--name=s', '--rw=randrw', '--verify=crc32c', '--loops=10000')
  await progress(REQUESTS_BETWEEN_KILLS)
  process.kill(-1, 'SIGSTOP')
  process.kill(-1, 'SIGCONT')
  await progress(REQUESTS_BETWEEN_KILLS)
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGPIPE', 'SIGQUIT'] as const) {
    process.kill(supervisor.pid, signal)
  }
  await progress(REQUESTS_BETWEEN_KILLS)
  const { errors } = await fio.end()
  const { restarts } = await supervisor.agent('ok connected')
  return { errors, restarts, status: await supervisor.detach() }
}

/** Kills the agent again and again while requests of both kinds are in flight. */
async function kills(program: string): Promise<unknown> {
  const supervisor = await GuestSupervisor.start(program)
  await writeDevice()
  const halfBytes = DISK_BYTES / 2
  const half = `--size=${halfBytes}`
  const write = ['--name=write', '--rw=randwrite', '--verify=crc32c', '--loops=10000', half]
  const read = ['--name=read', '--rw=randread', '--time_based', '--runtime=1h', half]
  const fio = startFio(...write, ...read, `--offset=${halfBytes}`)
  const stalls: { agentMs: number; readMs: number }[] = []
  let { pid } = await supervisor.agent('ok connected')
  for (let restarts = 1; restarts <= KILLS; restarts++) {
    await progress(REQUESTS_BETWEEN_KILLS)
    const startMs = performance.now()
    const elapsedMs = () => Math.round(performance.now() - startMs)
    process.kill(pid, 'SIGKILL')
    // A request that begins while there is no agent, beside those that were in flight.
    const readMs = readDirectly(4096).then(elapsedMs)
    ;({ pid } = await supervisor.agent('ok reconnected', restarts))
    stalls.push({ agentMs: elapsedMs(), readMs: await readMs })
  }
  await progress(REQUESTS_BETWEEN_KILLS)
  const { errors, longestMs } = await fio.end()
  return {
    errors,
    longestMs,
    stalls,
    same: (await hashOf(DEVICE)) === (await hashOf(DISK)),
    kernel: await kernelErrors(),
    status: await supervisor.detach(),
  }
}

async function heapFull(program: string): Promise<unknown> {
  const supervisor = await GuestSupervisor.start(program)
  await writeDevice()
  const fio = startFio('--name=r', '--rw=randread', '--time_based', '--runtime=1h')
  await progress(REQUESTS_BETWEEN_KILLS)
  const { pid } = await supervisor.agent('ok connected')
  process.kill(pid, 'SIGUSR2')
  const { otherSize, again } = await supervisor.agent('ok reconnected', 1)
  await progress(REQUESTS_BETWEEN_KILLS)
  const { errors } = await fio.end()
  const same = (await hashOf(DEVICE)) === (await hashOf(DISK))
  return { otherSize, again, errors, same, status: await supervisor.detach() }
}

/** An agent that does not go on where the one before ended. */
async function detachFirst(program: string): Promise<unknown> {
  const supervisor = await GuestSupervisor.start(program)
  await writeDevice()
  const before = await readDirectly()
  await writeFile(DETACH_FIRST, '')
  process.kill((await supervisor.agent('ok connected')).pid, 'SIGKILL')
  const { restarts } = await supervisor.agent('ok connected', 1)
  const same = (await readDirectly()) === before
  return { restarts, same, status: await supervisor.detach() }
}

/** The kernel does not see that an agent is dead as long as a process it left has its socket. */
async function socketHeld(program: string): Promise<unknown> {
  await writeFile(HOLD_SOCKET, '')
  const supervisor = await GuestSupervisor.start(program)
  await eventually('the helper runs', async () => (await readFile(HOLD_SOCKET, 'utf8')) !== '')
  const helper = Number(await readFile(HOLD_SOCKET, 'utf8'))
  await rm(HOLD_SOCKET)
  await writeDevice()
  const before = await readDirectly()
  process.kill((await supervisor.agent('ok connected')).pid, 'SIGKILL')
  const refused = await supervisor.agent(
    "error 16 the kernel still has the former agent's socket: exit",
    1,
  )
  process.kill(helper, 'SIGKILL')
  const taken = await supervisor.agent('ok reconnected', refused.restarts + 1)
  const same = (await readDirectly()) === before
  return { restarts: taken.restarts, same, status: await supervisor.detach() }
}

/** Agents that exit at once, as if they meant to end, while a device is attached. */
async function crashLoop(program: string): Promise<unknown> {
  await writeFile(SUPERVISOR_LOG, '')
  const supervisor = await GuestSupervisor.start(program, CRASHING)
  await writeDevice()
  const before = await readDirectly()
  const crashed = async (status: string, pauseMs: number) => {
    await writeFile(CRASH, status)
    const expected = new RegExp(`status ${status}; restart \\d+ in ${pauseMs} ms$`, 'm')
    const check = async () => expected.test(await readFile(SUPERVISOR_LOG, 'utf8'))
    await eventually(`a restart after status ${status} in ${pauseMs} ms`, check, CRASHES_TIMEOUT_MS)
  }
  await writeFile(CRASH, '0')
  process.kill((await supervisor.agent('ok connected')).pid, 'SIGKILL')
  await crashed('0', 400)
  await crashed('64', 1000)
  await rm(CRASH)
  const { restarts } = await supervisor.agent('ok reconnected')
  const same = (await readDirectly()) === before
  return { restarts, same, status: await supervisor.detach() }
}

/** There is no loaded kernel to start; nor could User-mode Linux load one. */
async function kexecNothing(program: string): Promise<unknown> {
  const failure: unknown = await promisify(execFile)(program, ['--kexec']).catch((error) => error)
  if (!(failure instanceof Error && 'code' in failure && 'stderr' in failure)) return undefined
  return { status: failure.code, said: failure.stderr }
}

/** Fills the device with what no other block holds. */
async function writeDevice(): Promise<void> {
  await runProgram('sh', [
    '-euc',
    `seq -f %015g 1 ${DISK_BYTES / 16} | dd of=${DEVICE} bs=1M iflag=fullblock oflag=direct status=none`,
  ])
}

/** Reads the device past the page cache, waiting for the agent however long it takes. */
async function readDirectly(lengthBytes = DISK_BYTES): Promise<string> {
  const options = `bs=${Math.min(lengthBytes, 1024 * 1024)} iflag=direct,count_bytes`
  const script = `dd if=${DEVICE} ${options} count=${lengthBytes} of=/tmp/read; sha256sum /tmp/read`
  return await runProgram('sh', ['-euc', script])
}

interface RunningFio {
  /** Ends it, and returns the errors of its jobs and the longest of its requests. */
  readonly end: () => Promise<{ errors: number[]; longestMs: number }>
}

function startFio(...jobs: string[]): RunningFio {
  const common = ['--filename=/dev/nbd0', '--direct=1', '--ioengine=libaio', '--bs=4k']
  const format = [
    '--iodepth=8',
    '--output-format=json',
    '--output=/tmp/fio.json',
    '--verify_state_save=0',
  ]
  const child = spawn('fio', [...common, ...format, ...jobs], { stdio: 'inherit' })
  const exited = once(child, 'exit')
  const end = async () => {
    child.kill('SIGINT')
    await exited
    const text = await readFile('/tmp/fio.json', 'utf8')
    const report = JSON.parse(text.slice(text.indexOf('{'))) as FioReport
    const latencies = report.jobs.flatMap(({ read, write }) => [read.lat_ns.max, write.lat_ns.max])
    return {
      errors: report.jobs.map(({ error }) => error),
      longestMs: Math.round(Math.max(...latencies) / 1e6),
    }
  }
  return { end }
}

interface FioReport {
  readonly jobs: readonly {
    readonly error: number
    readonly read: { readonly lat_ns: { readonly max: number } }
    readonly write: { readonly lat_ns: { readonly max: number } }
  }[]
}

/** Waits until the device has answered so many requests more, some of each kind there is. */
async function progress(requests: number): Promise<void> {
  const total = async () => {
    const { reads, writes } = await completedRequests()
    return reads + writes
  }
  const begin = await total()
  const check = async () => (await total()) >= begin + requests
  await eventually(`${requests} requests are answered`, check, PROGRESS_TIMEOUT_MS)
}

async function storageDaemon(pid: number): Promise<unknown> {
  return {
    name: (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')[0],
    oomScoreAdj: Number(await readFile(`/proc/${pid}/oom_score_adj`, 'utf8')),
    threadFlags: await threadFlags(pid),
    folder: await readlink(`/proc/${pid}/cwd`),
  }
}

async function openFiles(pid: number): Promise<string[]> {
  const names = await readdir(`/proc/${pid}/fd`)
  const paths = await Promise.all(
    names.map(async (name) => await readlink(`/proc/${pid}/fd/${name}`)),
  )
  return paths.map((path) => path.replace(/\[\d+\]/, '')).sort()
}

/** Lines of the kernel's log that tell of failed requests. */
async function kernelErrors(): Promise<string[]> {
  const lines = (await runProgram('dmesg', [])).split('\n')
  return lines.filter((line) => /I\/O error|shutting down sockets/i.test(line))
}
