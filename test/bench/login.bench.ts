/**
 * npm run bench -- login: what a boot costs on the wire, and how well it was foreseen. See README.md.
 *
 *   --full         over every link
 *   --system NAME  only minimal or desktop
 *   --json         one JSON object on the last line
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { invariant } from '#shared/invariant.ts'
import { MiB } from '#shared/units.ts'
import { CACHE_FOLDER } from '#test/support/build-cache.ts'
import { BENCH_SYSTEMS, type BenchSystem } from './bench-images.ts'
import { BenchSite } from './bench-site.ts'
import { GBIT, Link, type LinkShape, linkName, MBIT } from './link.ts'
import { BANDWIDTHS, ROUND_TRIPS_MS } from './link-shapes.ts'
import { THINK_DIVISOR } from './record-boot.ts'
import { type Run, Stand, type Subject } from './replay-runs.ts'
import { type Goal, median, reportGoals, say } from './report.ts'

interface Row {
  readonly system: BenchSystem
  readonly link: LinkShape
  readonly subject: Subject
  readonly wireBytes: number
  /** Payload of reads. */
  readonly readBytes: number
  /** Reads whose data was there, or came within a round trip and 5 ms. */
  readonly hitShare: number
  /** Pushed bytes of chunks that nobody read; absent where nothing is pushed. */
  readonly wasteShare: number | undefined
}

const ROUNDS = 3

const NO_PREFETCH = { pushedBytes: 0, unusedBytes: 0 }

/** Beyond a round trip, what a server takes to answer. */
const ANSWER_MS = 5

const SUBJECTS: readonly Subject[] = [
  'nbdkit',
  'demand',
  'cold',
  'traced',
  'carried in place',
  'carried rebuilt',
  'next in place',
  'next rebuilt',
]

/** Others are of interest only for their bytes, and take long. */
const JUDGED: readonly Subject[] = SUBJECTS.filter(
  (it) => it !== 'nbdkit' && it !== 'demand' && it !== 'cold',
)

/** Where bytes are counted one by one, … */
const counted: LinkShape = { roundTripMs: 20, bitsPerSecond: 100 * MBIT, exactCounters: true }
/** … and where the foresight alone decides, and not the bandwidth. */
const judged: LinkShape = { roundTripMs: 20, bitsPerSecond: GBIT }

const { values: options } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    system: { type: 'string' },
  },
})

const rows: Row[] = []
const systems = BENCH_SYSTEMS.filter((it) => options.system === undefined || it === options.system)
for (const system of systems) {
  await using site = await BenchSite.prepare(system)
  await sayBytesFromPowerOn(site)
  say('| link | served by | wire MB | × nbdkit | hit % | waste % |\n|---|---|---|---|---|---|')
  for (const link of links()) await measure(site, link)
}
reportGoals('login', goalsOf(), rows)

function links(): LinkShape[] {
  const all = ROUND_TRIPS_MS.flatMap((roundTripMs) =>
    BANDWIDTHS.map((bitsPerSecond) => ({ roundTripMs, bitsPerSecond })),
  )
  return [counted, judged, ...(options.full ? all : [])]
}

async function measure(site: BenchSite, shape: LinkShape): Promise<void> {
  await using link = await Link.create(shape)
  await using stand = await Stand.open(site, link)
  let plainBytes = Number.NaN
  for (const subject of SUBJECTS) {
    if (shape !== counted && !JUDGED.includes(subject)) continue
    const runs: Run[] = []
    for (let round = 0; round < (subject === 'nbdkit' ? 1 : ROUNDS); round += 1) {
      runs.push(await stand.run(subject, { thinkDivisor: THINK_DIVISOR }))
    }
    // What was listed for after the login is no waste: as much was recorded of the boot before.
    const whole = await stand.run(subject, { thinkDivisor: THINK_DIVISOR, isWhole: true })
    const row = rowOf(site.system, shape, subject, { runs, whole })
    rows.push(row)
    if (subject === 'nbdkit') plainBytes = row.wireBytes
    say(formatRow(row, plainBytes))
  }
}

function rowOf(
  system: BenchSystem,
  link: LinkShape,
  subject: Subject,
  { runs, whole }: { readonly runs: readonly Run[]; readonly whole: Run },
): Row {
  const { pushedBytes, unusedBytes } = whole.agent?.overlay.prefetch ?? NO_PREFETCH
  const [first] = runs
  invariant(first !== undefined, 'there was a run')
  return {
    system,
    link,
    subject,
    wireBytes: median(runs.map(({ wireBytes }) => wireBytes)),
    readBytes: first.report.readBytes,
    hitShare: median(
      runs.map(({ report: { latenciesMs } }) => {
        const hits = latenciesMs.filter((ms) => ms <= link.roundTripMs + ANSWER_MS)
        return hits.length / latenciesMs.length
      }),
    ),
    wasteShare: pushedBytes === 0 ? undefined : unusedBytes / pushedBytes,
  }
}

/** What a machine loads before its vDisk is opened: kernel, agent and drivers. */
async function sayBytesFromPowerOn(site: BenchSite): Promise<void> {
  const kernels = join(site.folder, 'state/boot/kernel')
  const [kernel] = await readdir(kernels)
  invariant(kernel !== undefined, 'the system brings a kernel')
  const paths = {
    kernel: join(kernels, kernel, 'vmlinuz'),
    drivers: join(kernels, kernel, 'modules.img'),
    agent: join(CACHE_FOLDER, 'initramfs/agent.img'),
  }
  const parts = await Promise.all(
    Object.entries(paths).map(async ([name, path]) => {
      const bytes = await stat(path).then(
        ({ size }) => (size / MiB).toFixed(1),
        () => 'not built:',
      )
      return `${bytes} MiB ${name}`
    }),
  )
  say(`\n${site.system}; from power-on, before the vDisk: ${parts.join(', ')}`)
}

function goalsOf(): Goal[] {
  const find = (system: BenchSystem, link: LinkShape, subject: Subject) =>
    rows.find((row) => row.system === system && row.link === link && row.subject === subject)
  const worst = (
    choose: (...values: number[]) => number,
    of: (system: BenchSystem) => readonly (number | undefined)[],
  ) => {
    const values = systems.flatMap((system) => of(system).map((value) => value ?? Number.NaN))
    return Math.round(choose(...values) * 10_000) / 10_000
  }
  const vsPlain = (system: BenchSystem, subject: Subject) =>
    (find(system, counted, subject)?.wireBytes ?? Number.NaN) /
    (find(system, counted, 'nbdkit')?.wireBytes ?? Number.NaN)
  const hits = (system: BenchSystem, subject: Subject) => find(system, judged, subject)?.hitShare
  return [
    {
      name: 'login.bytes_vs_plain_nbd',
      value: worst(Math.max, (it) => [vsPlain(it, 'traced')]),
      goal: '≤0.45',
    },
    {
      name: 'login.first_boot_bytes_vs_plain_nbd',
      value: worst(Math.max, (it) => [vsPlain(it, 'cold')]),
      goal: 'none',
    },
    { name: 'trace.hit', value: worst(Math.min, (it) => [hits(it, 'traced')]), goal: '≥0.99' },
    {
      name: 'trace.waste',
      value: worst(Math.max, (it) => [find(it, judged, 'traced')?.wasteShare]),
      goal: '≤0.03',
    },
    {
      name: 'trace.next_version_hit',
      value: worst(Math.min, (it) => [
        hits(it, 'carried in place'),
        hits(it, 'carried rebuilt'),
        hits(it, 'next in place'),
        hits(it, 'next rebuilt'),
      ]),
      goal: '≥0.9',
    },
  ]
}

function formatRow(row: Row, plainBytes: number): string {
  const cells = [
    linkName(row.link),
    row.subject,
    (row.wireBytes / 1e6).toFixed(2),
    Number.isNaN(plainBytes) ? '' : (row.wireBytes / plainBytes).toFixed(3),
    (row.hitShare * 100).toFixed(2),
    row.wasteShare === undefined ? '' : (row.wasteShare * 100).toFixed(2),
  ]
  return `| ${cells.join(' | ')} |`
}
