/**
 * What the bench of faults does inside a User-mode Linux: the initramfs' supervisor with the product's agent
 * serves /dev/nbd0 over a network; fio reads it past every cache, and writes what it can verify.
 *
 * usage: faults-guest.ts OPTIONS_FILE   (GuestOptions in JSON)
 *
 * Before each run it says `FAULT NAME ROUND`, and after it `RESULT` with a FaultResult in JSON.
 */
import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type AgentGuest,
  exists,
  killAgent,
  READY_TIMEOUT_MS,
  startAgent,
} from '#test/support/agent-guest.ts'
import { eventually } from '#test/support/eventually.ts'

export interface GuestOptions extends AgentGuest {
  readonly runs: readonly FaultRun[]
  /** Bytes at the beginning of the device that are read, and those behind them that are written. */
  readonly readBytes: number
  readonly writeBytes: number
}

export interface FaultRun {
  readonly name: string
  readonly round: number
  /** How long fio works. The fault comes two seconds after it began. */
  readonly seconds: number
  /** What is done in here; else it is the host's to do. */
  readonly killsAgent?: boolean
  /** A device that nobody guards, to see that what goes wrong is seen. */
  readonly control?: 'errors' | 'lost-writes'
}

export interface FaultResult {
  readonly name: string
  readonly round: number
  /** The read that took longest, in seconds. */
  readonly stallSeconds: number
  /** Requests that failed. */
  readonly errors: number
  /** Blocks that were written, acknowledged, and read back as something else. */
  readonly lostWrites: number
  readonly verifiedWrites: number
}

const DEVICE = '/dev/nbd0'
const CONTROL_DEVICE = '/dev/nbd1'
const CONTROL_BYTES = 64 * 1024 * 1024
const FAULT_AFTER_MS = 2_000

/** What a job of fio ends with when a block is not what was written. */
const EILSEQ = 84

interface FioJob {
  readonly jobname: string
  readonly error: number
  readonly total_err?: number
  readonly read: { readonly total_ios: number; readonly clat_ns: { readonly max: number } }
  readonly write: { readonly total_ios: number }
}

if (import.meta.main) await run()

async function run(): Promise<void> {
  const [, , path] = process.argv
  const options = JSON.parse(readFileSync(path ?? '', 'utf8')) as GuestOptions
  await startAgent(options)
  for (const each of options.runs) {
    const result = each.control === undefined ? await measure(options, each) : await control(each)
    process.stdout.write(`RESULT ${JSON.stringify(result)}\n`)
  }
}

async function measure(options: GuestOptions, run: FaultRun): Promise<FaultResult> {
  const { readBytes, writeBytes } = options
  const common = ['--direct=1', '--ioengine=libaio', '--time_based', `--runtime=${run.seconds}`]
  const reader = ['--name=read', `--filename=${DEVICE}`, '--rw=randread', '--bs=4k', '--iodepth=4']
  const writer = ['--name=write', `--filename=${DEVICE}`, '--rw=randwrite', '--bsrange=4k-16k']
  const verify = ['--verify=crc32c', '--verify_backlog=64', '--verify_fatal=0', '--iodepth=4']
  const fio = startFio([
    ...common,
    ...reader,
    `--size=${readBytes}`,
    ...writer,
    ...verify,
    `--offset=${readBytes}`,
    `--size=${writeBytes}`,
    `--randseed=${run.round + 1}`,
  ])
  await sleep(FAULT_AFTER_MS)
  process.stdout.write(`FAULT ${run.name} ${run.round}\n`)
  if (run.killsAgent === true) killAgent()
  return resultOf(run, await fio)
}

/** A device without anybody who starts its server again. */
async function control(run: FaultRun): Promise<FaultResult> {
  const serve = () =>
    spawn('nbdkit', ['-f', '-U', '/run/control.sock', 'memory', String(CONTROL_BYTES)], {
      stdio: 'ignore',
    })
  const attach = async () => {
    await eventually('nbdkit is there', () => exists('/run/control.sock'), READY_TIMEOUT_MS)
    spawnSync('nbd-client', ['-unix', '/run/control.sock', CONTROL_DEVICE, '-timeout', '3'])
  }
  const first = serve()
  await attach()
  const files = ['--direct=1', '--ioengine=libaio', `--filename=${CONTROL_DEVICE}`, '--bs=4k']
  const work = ['--rw=randwrite', '--verify=crc32c', `--size=${CONTROL_BYTES / 4}`, '--iodepth=4']
  const pattern = [...files, '--name=write', ...work, '--verify_fatal=0', '--continue_on_error=all']
  if (run.control === 'errors') {
    const fio = startFio([...pattern, '--time_based', `--runtime=${run.seconds}`])
    await sleep(FAULT_AFTER_MS)
    first.kill('SIGKILL')
    const result = resultOf(run, await fio)
    spawnSync('nbd-client', ['-d', CONTROL_DEVICE])
    return result
  }
  await startFio([...pattern, '--do_verify=0'])
  spawnSync('nbd-client', ['-d', CONTROL_DEVICE])
  first.kill('SIGKILL')
  spawnSync('rm', ['-f', '/run/control.sock'])
  const second = serve()
  await attach()
  const result = resultOf(run, await startFio([...pattern, '--verify_only']))
  spawnSync('nbd-client', ['-d', CONTROL_DEVICE])
  second.kill('SIGKILL')
  return result
}

async function startFio(args: readonly string[]): Promise<FioOutcome> {
  const fio = spawn('fio', ['--output-format=json', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let errors = ''
  fio.stdout.on('data', (part) => (said += String(part)))
  fio.stderr.on('data', (part) => (errors += String(part)))
  await new Promise((resolve) => fio.once('close', resolve))
  const begin = said.indexOf('{')
  const { jobs } = JSON.parse(said.slice(begin, said.lastIndexOf('}') + 1)) as { jobs: FioJob[] }
  // What fio finds wrong goes to either.
  const text = `${errors}${said.slice(0, begin)}`
  return { jobs, lost: (text.match(/^(?:verify|crc32c): bad/gm) ?? []).length }
}

interface FioOutcome {
  readonly jobs: readonly FioJob[]
  /** Blocks that were not what was written. */
  readonly lost: number
}

function resultOf({ name, round }: FaultRun, { jobs, lost }: FioOutcome): FaultResult {
  const reader = jobs.find(({ jobname }) => jobname === 'read')
  const failed = jobs.filter(({ error }) => error !== 0 && error !== EILSEQ).length
  const others = jobs.reduce((sum, { total_err = 0 }) => sum + total_err, 0)
  return {
    name,
    round,
    stallSeconds: (reader?.read.clat_ns.max ?? 0) / 1e9,
    errors: Math.max(failed, others - lost),
    lostWrites: lost,
    verifiedWrites: jobs.reduce((sum, { write }) => sum + write.total_ios, 0),
  }
}
