/**
 * npm run bench -- faults: what goes wrong with agent, server and network under a device that is read and
 * written all the time, and what the system sees of it. See README.md.
 *
 *   --rounds N     how often each (10)
 *   --full         also losses of a minute
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { invariant } from '#shared/invariant.ts'
import { MiB } from '#shared/units.ts'
import { FaultSite } from '#test/support/fault-site.ts'
import type { FaultResult, FaultRun } from './faults-guest.ts'
import { median, reportGoals, say } from './report.ts'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '10' },
    full: { type: 'boolean', default: false },
    json: { type: 'boolean' },
  },
})

const READ_BYTES = 192 * MiB
const WRITE_BYTES = 32 * MiB
const WRITES_MIN = 500
const ROUND_TIMEOUT_MS = 900_000

interface Fault {
  readonly name: string
  readonly what: string
  /** How long fio works. */
  readonly seconds: number
  readonly killsAgent?: boolean
  readonly control?: 'errors' | 'lost-writes'
  /** Returns how long there was no server, in seconds. */
  readonly make?: (site: FaultSite) => Promise<number>
}

const FAULTS: readonly Fault[] = [
  { name: 'agent-kill', what: 'agent killed (SIGKILL)', seconds: 8, killsAgent: true },
  {
    name: 'server-kill',
    what: 'server killed (SIGKILL), another one in its place after 3 s',
    seconds: 12,
    make: (site) => site.killServer(3),
  },
  {
    name: 'server-freeze',
    what: 'server frozen for 5 s (SIGSTOP)',
    seconds: 12,
    make: (site) => site.freezeServer(5),
  },
  {
    name: 'reset',
    what: 'connection reset',
    seconds: 6,
    make: (site) => site.resetConnections(),
  },
  {
    name: 'black-hole',
    what: 'no packet arrives for 5 s',
    seconds: 14,
    make: (site) => site.blackHole(5),
  },
]

const LONG_FAULTS: readonly Fault[] = [
  {
    name: 'server-kill-60',
    what: 'no server for 60 s',
    seconds: 75,
    make: (site) => site.killServer(60),
  },
  {
    name: 'server-freeze-60',
    what: 'server frozen for 60 s',
    seconds: 75,
    make: (site) => site.freezeServer(60),
  },
]

const CONTROLS: readonly Fault[] = [
  { name: 'control-errors', what: 'nbdkit killed, nobody guards', seconds: 6, control: 'errors' },
  {
    name: 'control-lost',
    what: 'nbdkit replaced by an empty one',
    seconds: 6,
    control: 'lost-writes',
  },
]

const rounds = Number(options.rounds)
const faults = [...FAULTS, ...(options.full ? LONG_FAULTS : []), ...CONTROLS]
const downSeconds = new Map<string, number[]>()
const results = await measureAll()
reportAll(results)

async function measureAll(): Promise<FaultResult[]> {
  await using site = await FaultSite.start()
  const script = join(import.meta.dirname, 'faults-guest.ts')
  const guest = { runs: runsOf(), readBytes: READ_BYTES, writeBytes: WRITE_BYTES }
  const machine = await site.startGuest('faults', script, guest)
  const found: FaultResult[] = []
  for (const run of runsOf()) {
    const fault = faults.find(({ name }) => name === run.name)
    if (run.control === undefined) {
      await machine.console.expect(new RegExp(`FAULT ${run.name} ${run.round}\\b`), {
        timeoutMs: ROUND_TIMEOUT_MS,
      })
      const seconds = await fault?.make?.(site)
      if (seconds !== undefined) note(run.name, seconds)
    }
    const { groups } = await machine.console.expect(/RESULT (?<json>\{.*\})\n/, {
      timeoutMs: ROUND_TIMEOUT_MS,
    })
    const result = JSON.parse(groups['json'] ?? '') as FaultResult
    say(`${run.name} ${run.round}: ${JSON.stringify(result)}`)
    found.push(result)
  }
  return found
}

/** Round by round, so that a machine that is slow for a while is so for all. */
function runsOf(): FaultRun[] {
  return Array.from({ length: rounds }, (_, round) => round).flatMap((round) =>
    faults
      .filter(({ control }) => control === undefined || round === 0)
      .map(({ name, seconds, killsAgent, control }) => ({
        name,
        round,
        seconds,
        ...(killsAgent && { killsAgent }),
        ...(control && { control }),
      })),
  )
}

function note(name: string, seconds: number): void {
  const known = downSeconds.get(name)
  if (known === undefined) downSeconds.set(name, [seconds])
  else known.push(seconds)
}

function reportAll(all: readonly FaultResult[]): void {
  const rows = faults.map((fault) => {
    const own = all.filter(({ name }) => name === fault.name)
    const stalls = own.map(({ stallSeconds }) => stallSeconds)
    const down = downSeconds.get(fault.name) ?? []
    return {
      fault: fault.name,
      what: fault.what,
      stallMedian: median(stalls),
      stallWorst: Math.max(...stalls),
      resumeWorst: Math.max(0, ...stalls.map((stall, at) => stall - (down[at] ?? stall))),
      errors: sum(own.map(({ errors }) => errors)),
      lostWrites: sum(own.map(({ lostWrites }) => lostWrites)),
      writesLeast: Math.min(...own.map(({ verifiedWrites }) => verifiedWrites)),
      isControl: fault.control !== undefined,
    }
  })
  say('\n| fault | stall s, median | worst | errors | lost writes | verified writes, least |')
  say('|---|---|---|---|---|---|')
  for (const row of rows) {
    const stalls = row.isControl
      ? ' |  '
      : `${row.stallMedian.toFixed(2)} | ${row.stallWorst.toFixed(2)}`
    say(`| ${row.what} | ${stalls} | ${row.errors} | ${row.lostWrites} | ${row.writesLeast} |`)
  }
  const real = rows.filter(({ isControl }) => !isControl)
  for (const { fault, writesLeast } of real) {
    invariant(writesLeast >= WRITES_MIN, `${fault}: only ${writesLeast} writes were verified`)
  }
  const [errors, lost] = rows.filter(({ isControl }) => isControl)
  invariant((errors?.errors ?? 0) > 0, 'a device that nobody guards shows errors')
  invariant((lost?.lostWrites ?? 0) > 0, 'a device that forgets shows lost writes')
  const worst = (name: string) => real.find(({ fault }) => fault === name)
  reportGoals(
    'faults',
    [
      { name: 'faults.errors', value: sum(real.map((it) => it.errors)), goal: '0' },
      { name: 'faults.lost_writes', value: sum(real.map((it) => it.lostWrites)), goal: '0' },
      {
        name: 'faults.agent_kill_stall_s',
        value: rounded(worst('agent-kill')?.stallWorst),
        goal: '<8',
      },
      {
        name: 'faults.server_resume_s',
        value: rounded(worst('server-kill')?.resumeWorst),
        goal: '<1',
      },
    ],
    rows,
  )
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function rounded(value: number | undefined): number {
  return Math.round((value ?? Number.NaN) * 100) / 100
}
