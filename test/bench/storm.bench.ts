/**
 * npm run bench -- storm: many clients boot at once from one server. See README.md.
 *
 *   --full         desktop too, and more rounds
 *   --clients N    only so many
 *   --json         one JSON object on the last line
 */
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { invariant } from '#shared/invariant.ts'
import { KiB } from '#shared/units.ts'
import type { BenchSystem } from './bench-images.ts'
import { BenchSite } from './bench-site.ts'
import { BenchProcess, benchProgram } from './child.ts'
import { GBIT, Link, type LinkShape, SERVER_ADDRESS } from './link.ts'
import { NBDKIT_PORT, PeerServers, QEMU_PORT } from './replay-peers.ts'
import { type Goal, median, reportGoals, say } from './report.ts'
import type { StormOptions, StormReport } from './storm-clients-process.ts'

/** proven: by bootwire, and clients decode and prove what they read, all of them on this machine. */
const SERVED_BY = ['bootwire', 'proven', 'nbdkit', 'qemu-nbd'] as const
type ServedBy = (typeof SERVED_BY)[number]

interface Storm {
  readonly firstMs: number
  readonly medianMs: number
  readonly lastMs: number
  /** CPU time of the server for what the clients have read. */
  readonly serverSecondsPerGb: number
  readonly clientSecondsPerGb: number
  readonly wireBytes: number
  readonly serverRssBytes: number
}

interface Row extends Storm {
  readonly system: BenchSystem
  readonly clients: number
  readonly servedBy: ServedBy
  readonly rounds: number
}

const CLIENTS = [1, 16, 60, 250] as const
/** What the goals are about. */
const GOAL_CLIENTS = 60
const GOAL_ROUNDS = 3

/** The clients of one address that a server accepts are just enough for the largest storm. */
const IDLE_CLIENTS = 200
const IDLE_CLIENTS_BEFORE = 40
/** Until garbage is collected and what is left of opening is gone. */
const SETTLE_MS = 15_000

/** One for each processor of a small machine. */
const CLIENT_PROCESSES = 2

const shape: LinkShape = { roundTripMs: 0.2, bitsPerSecond: GBIT }

const { values: options } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    clients: { type: 'string' },
  },
})

const rows: Row[] = []
let bytesPerIdleClient = Number.NaN
await measureSystem('minimal')
if (options.full) await measureSystem('desktop')
reportGoals('storm', goalsOf(), rows)

async function measureSystem(system: BenchSystem): Promise<void> {
  await using site = await BenchSite.prepare(system)
  if (system === 'minimal' && !options.clients) bytesPerIdleClient = await measureIdleClients(site)
  const heads = [
    'clients',
    'served by',
    'first s',
    'median s',
    'last s',
    'server s/GB',
    'clients s/GB',
    'wire MB',
    'server MiB',
  ]
  say(`\n${system}\n| ${heads.join(' | ')} |\n${'|---'.repeat(heads.length)}|`)
  for (const clients of CLIENTS) {
    if (options.clients === undefined || options.clients === String(clients)) {
      await measure(site, clients)
    }
  }
}

async function measure(site: BenchSite, clients: number): Promise<void> {
  const rounds = clients === GOAL_CLIENTS || options.full ? GOAL_ROUNDS : 1
  const storms: Record<ServedBy, Storm[]> = {
    bootwire: [],
    proven: [],
    nbdkit: [],
    'qemu-nbd': [],
  }
  for (let round = 0; round < rounds; round += 1) {
    for (const [turn] of SERVED_BY.entries()) {
      const servedBy = SERVED_BY[(turn + round) % SERVED_BY.length] ?? 'bootwire'
      storms[servedBy].push(await storm(site, clients, servedBy))
    }
  }
  for (const servedBy of SERVED_BY) {
    const row = rowOf(site.system, clients, servedBy, storms[servedBy])
    rows.push(row)
    say(formatRow(row))
  }
}

async function storm(site: BenchSite, clients: number, servedBy: ServedBy): Promise<Storm> {
  await using link = await Link.create(shape)
  await using parts = new AsyncDisposableStack()
  const recordPath = site.recordPath('current')
  let server: BenchProcess
  let target:
    | Pick<StormOptions & { nbd: string }, 'nbd'>
    | { server: { host: string; port: number; pin: string } }
  if (servedBy === 'bootwire' || servedBy === 'proven') {
    const ours = parts.use(await site.startServer(link))
    server = ours.process
    target = { server: { host: ours.host, port: ours.port, pin: ours.pin } }
  } else {
    const peers = parts.use(await PeerServers.start(link, site.images.before))
    server = servedBy === 'nbdkit' ? peers.nbdkit : peers.qemuNbd
    const port = servedBy === 'nbdkit' ? NBDKIT_PORT : QEMU_PORT
    target = { nbd: `${SERVER_ADDRESS}:${port}` }
  }
  const crowd = { link, parts, clients, isCheap: servedBy === 'bootwire' }
  const processes = await startClients(crowd, (part) => ({ recordPath, ...part, ...target }))
  const cpuBefore = server.cpuSeconds()
  const wireBefore = link.wireBytes()
  const clientCpuBefore = processes.reduce((sum, it) => sum + it.cpuSeconds(), 0)
  for (const process of processes) process.tell('boot')
  const reports = await Promise.all(processes.map((it) => it.json<StormReport>()))
  const serverSeconds = server.cpuSeconds() - cpuBefore
  const clientSeconds = processes.reduce((sum, it) => sum + it.cpuSeconds(), 0) - clientCpuBefore
  const bootMs = reports.flatMap((report) => report.bootMs).toSorted((a, b) => a - b)
  invariant(bootMs.length === clients, 'every client has booted')
  const readGb = reports.reduce((sum, { readBytes }) => sum + readBytes, 0) / 1e9
  return {
    firstMs: bootMs[0] ?? Number.NaN,
    medianMs: median(bootMs),
    lastMs: bootMs.at(-1) ?? Number.NaN,
    serverSecondsPerGb: serverSeconds / readGb,
    clientSecondsPerGb: clientSeconds / readGb,
    wireBytes: link.wireBytes() - wireBefore,
    serverRssBytes: server.residentBytes(),
  }
}

type Part = Pick<StormOptions, 'clients' | 'first'>

interface Crowd {
  readonly link: Link
  readonly parts: AsyncDisposableStack
  readonly clients: number
  /** Whether they take chunks as they come. */
  readonly isCheap: boolean
}

async function startClients(
  { link, parts, clients, isCheap }: Crowd,
  optionsOf: (part: Part) => StormOptions,
): Promise<BenchProcess[]> {
  const processes: BenchProcess[] = []
  const count = Math.min(CLIENT_PROCESSES, clients)
  for (let index = 0; index < count; index += 1) {
    const first = Math.ceil((clients * index) / count)
    const end = Math.ceil((clients * (index + 1)) / count)
    const own = optionsOf({ first, clients: end - first })
    processes.push(parts.use(await startClientProcess(link, own, isCheap)))
  }
  return processes
}

async function startClientProcess(
  link: Link,
  own: StormOptions,
  isCheap: boolean,
): Promise<BenchProcess> {
  const [node = '', ...program] = benchProgram('storm-clients-process.ts', [JSON.stringify(own)])
  const preload = isCheap ? ['--import', `${import.meta.dirname}/storm-cheap.ts`] : []
  const process = await BenchProcess.start(link.client.command([node, ...preload, ...program]))
  await process.line()
  return process
}

/** What a client costs the server's memory that has its vDisk open and does nothing. */
async function measureIdleClients(site: BenchSite): Promise<number> {
  await using link = await Link.create(shape)
  await using parts = new AsyncDisposableStack()
  const server = parts.use(await site.startServer(link))
  const { host, port, pin } = server
  const open = async (first: number, clients: number): Promise<number> => {
    const own: StormOptions = {
      recordPath: site.recordPath('current'),
      first,
      clients,
      server: { host, port, pin },
    }
    const process = parts.use(await startClientProcess(link, own, false))
    process.tell('open')
    await process.line()
    await setTimeout(SETTLE_MS)
    return server.process.residentBytes()
  }
  const before = await open(1000, IDLE_CLIENTS_BEFORE)
  const after = await open(2000, IDLE_CLIENTS)
  return (after - before) / IDLE_CLIENTS
}

function rowOf(
  system: BenchSystem,
  clients: number,
  servedBy: ServedBy,
  storms: readonly Storm[],
): Row {
  const middle = (of: (storm: Storm) => number) => median(storms.map(of))
  return {
    system,
    clients,
    servedBy,
    rounds: storms.length,
    firstMs: middle((it) => it.firstMs),
    medianMs: middle((it) => it.medianMs),
    lastMs: middle((it) => it.lastMs),
    serverSecondsPerGb: middle((it) => it.serverSecondsPerGb),
    clientSecondsPerGb: middle((it) => it.clientSecondsPerGb),
    wireBytes: middle((it) => it.wireBytes),
    serverRssBytes: middle((it) => it.serverRssBytes),
  }
}

function goalsOf(): Goal[] {
  const of = (servedBy: ServedBy) =>
    rows.find((row) => row.clients === GOAL_CLIENTS && row.servedBy === servedBy)
  const [ours, theirs] = [of('bootwire'), of('nbdkit')]
  const ratio = (top: number | undefined, bottom: number | undefined) =>
    Math.round(((top ?? Number.NaN) / (bottom ?? Number.NaN)) * 100) / 100
  return [
    {
      name: 'storm.last_60_vs_nbdkit',
      value: ratio(theirs?.lastMs, ours?.lastMs),
      goal: '≥2',
    },
    {
      name: 'storm.last_vs_median_60',
      value: ratio(ours?.lastMs, ours?.medianMs),
      goal: '≤1.5',
    },
    {
      name: 'storm.server_cpu_per_gb_vs_nbdkit',
      value: ratio(ours?.serverSecondsPerGb, theirs?.serverSecondsPerGb),
      goal: '≤0.5',
    },
    {
      name: 'storm.bytes_per_idle_client',
      value: Math.round(bytesPerIdleClient),
      goal: `≤${200 * KiB}`,
    },
  ]
}

function formatRow(row: Row): string {
  const cells = [
    String(row.clients),
    row.servedBy,
    ...[row.firstMs, row.medianMs, row.lastMs].map((ms) => (ms / 1000).toFixed(2)),
    row.serverSecondsPerGb.toFixed(3),
    row.clientSecondsPerGb.toFixed(2),
    (row.wireBytes / 1e6).toFixed(0),
    (row.serverRssBytes / KiB / KiB).toFixed(0),
  ]
  return `| ${cells.join(' | ')} |`
}
