/**
 * npm run bench -- replay: recorded boots over links, served by us and by other NBD servers. What
 * counts is how much longer a replay takes than from a local disk. See README.md.
 *
 *   --full         every subject over every link; hours
 *   --system NAME  only minimal or desktop
 *   --json         one JSON object on the last line
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { invariant } from '#shared/invariant.ts'
import { BENCH_SYSTEMS, type BenchSystem } from './bench-images.ts'
import { BenchSite } from './bench-site.ts'
import { GBIT, Link, type LinkShape, linkName, MBIT } from './link.ts'
import { BANDWIDTHS, ROUND_TRIPS_MS } from './link-shapes.ts'
import { parseRecord, THINK_DIVISOR, untilUp } from './record-boot.ts'
import { REPLAY_PEERS } from './replay-peers.ts'
import { OURS, type Run, type RunOptions, Stand, type Subject } from './replay-runs.ts'
import { type Goal, median, reportGoals, say } from './report.ts'
import { touchedBytes } from './touched-limit.ts'

/** Some subjects over one link. */
interface Cell {
  readonly link: LinkShape
  readonly options: RunOptions
  readonly subjects: readonly Subject[]
  readonly rounds: number
  /** Those whose runs are long and alike. */
  readonly onceOnly?: readonly Subject[]
}

interface Row {
  readonly system: BenchSystem
  readonly link: LinkShape
  readonly thinks: boolean
  readonly dropsCaches: boolean
  readonly subject: Subject
  readonly rounds: number
  readonly totalMs: readonly [median: number, least: number, most: number]
  /** To the local disk in the same cell, medians. */
  readonly addedMs: number
  readonly openMs: number
  /** Of the machine alone, from its connection to its last byte. */
  readonly machineMs: number
  readonly wireBytes: number
  /** Share of the reads that took no longer than a round trip and 5 ms. */
  readonly hitShare: number
}

const NO_THINKING = Number.POSITIVE_INFINITY
const THINKING: RunOptions = { thinkDivisor: THINK_DIVISOR }
const FROM_DISK: RunOptions = { thinkDivisor: THINK_DIVISOR, dropCaches: true }

const lan: LinkShape = { roundTripMs: 0.2, bitsPerSecond: GBIT }
const near: LinkShape = { roundTripMs: 20, bitsPerSecond: 100 * MBIT }
const far: LinkShape = { roundTripMs: 50, bitsPerSecond: 100 * MBIT }
const slow: LinkShape = { roundTripMs: 20, bitsPerSecond: 25 * MBIT }

/**
 * The peers' runs over long round trips are the sum of thousands of round trips: minutes, and the same
 * every time. All three are tried where minimal takes 15 s; elsewhere the one that is best there.
 */
const GOAL_CELLS: Readonly<Record<BenchSystem, readonly Cell[]>> = {
  minimal: [
    { link: lan, options: THINKING, subjects: ['local', 'nbdkit', 'demand', 'cold'], rounds: 5 },
    { link: lan, options: FROM_DISK, subjects: ['local', 'warm'], rounds: 5 },
    {
      link: lan,
      options: { thinkDivisor: NO_THINKING, dropCaches: true },
      subjects: ['local', 'warm'],
      rounds: 5,
    },
    {
      link: near,
      options: THINKING,
      subjects: [...REPLAY_PEERS, 'demand', 'cold', 'traced', 'next in place', 'next rebuilt'],
      rounds: 3,
      onceOnly: ['nbdkit-cached', 'qemu-nbd', 'demand', 'cold', 'next in place', 'next rebuilt'],
    },
    {
      link: far,
      options: THINKING,
      subjects: ['local', 'nbdkit', 'traced'],
      rounds: 3,
      onceOnly: ['nbdkit'],
    },
    { link: slow, options: { thinkDivisor: NO_THINKING }, subjects: ['traced'], rounds: 3 },
  ],
  desktop: [
    { link: lan, options: THINKING, subjects: ['local', 'nbdkit', 'demand', 'cold'], rounds: 3 },
    { link: lan, options: FROM_DISK, subjects: ['local', 'warm'], rounds: 1 },
    {
      link: lan,
      options: { thinkDivisor: NO_THINKING, dropCaches: true },
      subjects: ['local', 'warm'],
      rounds: 3,
    },
    {
      link: near,
      options: THINKING,
      subjects: ['local', 'nbdkit', 'traced'],
      rounds: 3,
      onceOnly: ['nbdkit'],
    },
    {
      link: far,
      options: THINKING,
      subjects: ['local', 'nbdkit', 'traced'],
      rounds: 3,
      onceOnly: ['nbdkit'],
    },
    { link: slow, options: { thinkDivisor: NO_THINKING }, subjects: ['traced'], rounds: 1 },
  ],
}

const FULL_ROUNDS = 3
const ALL_SUBJECTS: readonly Subject[] = [...REPLAY_PEERS, ...OURS].filter(
  (it) => !it.startsWith('carried'),
)
const FULL_CELLS: readonly Cell[] = ROUND_TRIPS_MS.flatMap((roundTripMs) =>
  BANDWIDTHS.flatMap((bitsPerSecond) =>
    [THINKING, { thinkDivisor: NO_THINKING }].map((options) => ({
      link: { roundTripMs, bitsPerSecond },
      options,
      subjects: ALL_SUBJECTS,
      rounds: FULL_ROUNDS,
      onceOnly: roundTripMs > 5 ? REPLAY_PEERS.filter((peer) => peer !== 'local') : [],
    })),
  ),
)

/** What is asked of a first read: no longer than the path takes. */
const PROMPT_MS = 5

const { values: options } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    system: { type: 'string' },
  },
})

const rows: Row[] = []
const limitSeconds: Partial<Record<BenchSystem, number>> = {}
for (const system of BENCH_SYSTEMS) {
  if (options.system === undefined || options.system === system) await measureSystem(system)
}
reportGoals('replay', goalsOf(), rows)

async function measureSystem(system: BenchSystem): Promise<void> {
  await using site = await BenchSite.prepare(system)
  const image = site.imagePath('current')
  const record = parseRecord(readFileSync(site.recordPath('current'), 'utf8'))
  limitSeconds[system] = (touchedBytes(image, untilUp(record)) * 8) / slow.bitsPerSecond
  await verify(site)
  say(formatHead(system))
  const cells = [...GOAL_CELLS[system], ...(options.full ? FULL_CELLS : [])]
  for (const cell of cells) await measureCell(site, cell)
}

/** Every byte that every subject gives to a machine is that of the image; nothing is timed. */
async function verify(site: BenchSite): Promise<void> {
  await using link = await Link.create(lan)
  await using stand = await Stand.open(site, link)
  for (const subject of ALL_SUBJECTS) {
    const run = await stand.run(subject, { thinkDivisor: NO_THINKING, verify: true })
    const { verifiedBytes, readBytes } = run.report
    invariant(verifiedBytes === readBytes && readBytes > 0, `${subject} gives every byte`)
    checkSubject(subject, run)
  }
  say(`${site.system}: every byte of all ${ALL_SUBJECTS.length} is that of the image`)
}

/** That a subject is what it is called. */
function checkSubject(subject: Subject, { agent, wireBytes, report }: Run): void {
  if (subject === 'local') invariant(wireBytes < 0.01 * report.readBytes, 'local is local')
  if (agent === undefined) return
  const { prefetch, objectsCorrupt } = agent.overlay
  invariant(objectsCorrupt === 0, 'no object is corrupt')
  const isPushed = prefetch.pushedBytes > 0
  if (subject === 'demand') invariant(!isPushed, 'what is not asked for does not come')
  if (subject === 'cold' || subject === 'traced') invariant(isPushed, `${subject} is pushed to`)
  if (subject === 'warm') invariant(wireBytes < 0.02 * report.readBytes, 'warm has it all')
}

async function measureCell(site: BenchSite, cell: Cell): Promise<void> {
  await using link = await Link.create(cell.link)
  await using stand = await Stand.open(site, link)
  const runs = new Map<Subject, Run[]>(cell.subjects.map((subject) => [subject, []]))
  for (let round = 0; round < cell.rounds; round += 1) {
    for (const [turn] of cell.subjects.entries()) {
      const subject = cell.subjects[(turn + round) % cell.subjects.length]
      invariant(subject !== undefined, 'a turn is somebody’s')
      if (round > 0 && cell.onceOnly?.includes(subject) === true) continue
      const run = await stand.run(subject, cell.options)
      checkSubject(subject, run)
      runs.get(subject)?.push(run)
    }
  }
  const localMs = median((runs.get('local') ?? []).map(({ totalMs }) => totalMs))
  for (const [subject, own] of runs) {
    const row = rowOf(site.system, cell, { subject, own, localMs })
    rows.push(row)
    say(formatRow(row))
  }
}

function rowOf(
  system: BenchSystem,
  { link, options: { thinkDivisor, dropCaches = false } }: Cell,
  measured: { readonly subject: Subject; readonly own: readonly Run[]; readonly localMs: number },
): Row {
  const { subject, own, localMs } = measured
  const middle = (of: (run: Run) => number) => median(own.map(of))
  const totals = own.map(({ totalMs }) => totalMs)
  return {
    system,
    link,
    thinks: Number.isFinite(thinkDivisor),
    dropsCaches: dropCaches,
    subject,
    rounds: own.length,
    totalMs: [median(totals), Math.min(...totals), Math.max(...totals)],
    addedMs: median(totals) - localMs,
    openMs: middle(({ openMs }) => openMs),
    machineMs: middle(({ connectMs, report }) => connectMs + report.runMs),
    wireBytes: middle(({ wireBytes }) => wireBytes),
    hitShare: middle(({ report: { latenciesMs } }) => {
      const prompt = latenciesMs.filter((ms) => ms <= link.roundTripMs + PROMPT_MS)
      return prompt.length / latenciesMs.length
    }),
  }
}

type Where = Pick<Row, 'link' | 'thinks' | 'dropsCaches'>

function find(system: BenchSystem, { link, thinks, dropsCaches }: Where, subject: Subject) {
  return rows.find(
    (row) =>
      row.system === system &&
      row.link === link &&
      row.thinks === thinks &&
      row.dropsCaches === dropsCaches &&
      row.subject === subject,
  )
}

function goalsOf(): Goal[] {
  const on = (link: LinkShape, thinks = true, dropsCaches = false): Where => {
    return { link, thinks, dropsCaches }
  }
  const at = (system: BenchSystem, where: Where, subject: Subject, of: (row: Row) => number) => {
    const row = find(system, where, subject)
    return row === undefined ? Number.NaN : of(row)
  }
  const added = (row: Row) => row.addedMs
  const machine = (row: Row) => row.machineMs
  const total = ({ totalMs: [middle] }: Row) => middle
  const bestPeer = (system: BenchSystem, where: Where) =>
    Math.min(
      ...(['nbdkit', 'nbdkit-cached', 'qemu-nbd'] as const)
        .map((peer) => at(system, where, peer, added))
        .filter((it) => !Number.isNaN(it)),
    )
  const vsPeer = (where: Where) => (system: BenchSystem) =>
    bestPeer(system, where) / at(system, where, 'traced', added)
  const fromDisk = on(lan, false, true)
  return [
    least('replay.added_20ms_vs_best_peer', '≥5', vsPeer(on(near))),
    least('replay.added_50ms_vs_best_peer', '≥8', vsPeer(on(far))),
    most('replay.trace_25mbit_vs_limit', '≤1.2', (system) => {
      const seconds = at(system, on(slow, false), 'traced', total) / 1000
      return seconds / (limitSeconds[system] ?? Number.NaN)
    }),
    most('replay.warm_vs_local_file', '≤1.5', (system) => {
      return at(system, fromDisk, 'warm', machine) / at(system, fromDisk, 'local', machine)
    }),
    most('replay.warm_added_seconds', '≤0.2', (system) => {
      const where = on(lan, true, true)
      return (at(system, where, 'warm', machine) - at(system, where, 'local', machine)) / 1000
    }),
    least('replay.cold_vs_nbdkit', '≥1', (system) => {
      return at(system, on(lan), 'nbdkit', total) / at(system, on(lan), 'cold', total)
    }),
  ]
}

/** The worse of the systems. */
function least(name: string, goal: string, of: (system: BenchSystem) => number): Goal {
  return { name, value: rounded(Math.min(...measuredSystems().map(of))), goal }
}

function most(name: string, goal: string, of: (system: BenchSystem) => number): Goal {
  return { name, value: rounded(Math.max(...measuredSystems().map(of))), goal }
}

function measuredSystems(): BenchSystem[] {
  return BENCH_SYSTEMS.filter((system) => rows.some((row) => row.system === system))
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100
}

function formatHead(system: BenchSystem): string {
  const limit = limitSeconds[system]?.toFixed(2)
  const heads = 'link | thinks | from disk | served by | s | added s | open s | wire MB | prompt %'
  const line = '|---'.repeat(heads.split('|').length)
  return `\n${system}; limit at 25 Mb/s ${limit} s\n| ${heads} |\n${line}|`
}

function formatRow(row: Row): string {
  const [middle, low, high] = row.totalMs.map((ms) => (ms / 1000).toFixed(2))
  const cells = [
    linkName(row.link),
    row.thinks ? 'yes' : '',
    row.dropsCaches ? 'yes' : '',
    row.subject,
    row.rounds === 1 ? middle : `${middle} [${low}–${high}]`,
    (row.addedMs / 1000).toFixed(2),
    (row.openMs / 1000).toFixed(2),
    (row.wireBytes / 1e6).toFixed(1),
    (row.hitShare * 100).toFixed(1),
  ]
  return `| ${cells.join(' | ')} |`
}
