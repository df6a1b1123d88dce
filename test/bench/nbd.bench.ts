/**
 * npm run bench -- nbd: our NBD server, with all block layers below it, against nbdkit and qemu-nbd.
 * The servers take turns in every round, so that what else the machine does meets all of them alike;
 * what counts are the ratios of a round to nbdkit's memory plugin. See README.md.
 *
 *   --full     every cell and every server; otherwise only what has a goal
 *   --rounds N default 9
 *   --json     one JSON object on the last line
 */
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { GiB, KiB, MiB } from '#shared/units.ts'
import { runScript } from '#test/support/child-run.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { type Cell, COPY, type Measured, randomReads } from './nbd-load.ts'
import { PEERS, Peer, type PeerName } from './nbd-peers.ts'
import { type Goal, median, reportGoals, say } from './report.ts'

const IMAGE_BYTES = GiB

/** What all others are compared with. */
const BASE: PeerName = 'nbdkit'

const GOAL_CELLS = [randomReads(4 * KiB, 16), COPY]
const ALL_CELLS = [
  randomReads(4 * KiB, 1),
  randomReads(4 * KiB, 16),
  randomReads(4 * KiB, 32),
  randomReads(64 * KiB, 4),
  randomReads(MiB, 4),
  COPY,
]

interface Row {
  readonly cell: string
  readonly server: PeerName
  readonly iops: number
  readonly mbPerSecond: number
  readonly p50Us: number
  readonly p99Us: number
  readonly cpuUsPerOp: number
  readonly cpuSecondsPerGb: number
  /** To the base server in the same round: median, least and greatest. */
  readonly iopsRatio: readonly [number, number, number]
  readonly cpuRatio: readonly [number, number, number]
}

const { values: options } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '9' },
  },
})
const rounds = Number(options.rounds)
const cells = options.full ? ALL_CELLS : GOAL_CELLS
const names: readonly PeerName[] = options.full ? PEERS : ['bootwire', BASE]

const image = await prepareImage()
const rows: Row[] = []
{
  // In memory: no disk of this machine shall be measured.
  await using folder = await createTemporaryFolder('/dev/shm')
  await using servers = new AsyncDisposableStack()
  const peers: Peer[] = []
  for (const name of names) {
    say(`starting ${name}, and comparing every byte it serves`)
    peers.push(servers.use(await Peer.start(name, image, folder.path)))
  }
  say(formatHead())
  for (const cell of cells) {
    const measured = await measure(cell, peers)
    for (const name of names) rows.push(rowOf(cell, name, measured))
    for (const row of rows.slice(-names.length)) say(formatRow(row))
  }
}
reportGoals('nbd', goalsOf(), rows)

/** File data as it is on a disk: the files of this system, one behind the other. */
async function prepareImage(): Promise<string> {
  const folder = '.cache/bench'
  const path = join(folder, 'files-1GiB.img')
  if (existsSync(path)) return path
  mkdirSync(folder, { recursive: true })
  say('making an image of 1 GiB from the files of /usr')
  const script =
    'while :; do tar -cf - -C /usr lib share bin; done 2>/dev/null | head -c "$1" >"$2"'
  await runScript(script, [String(IMAGE_BYTES), `${path}.part`])
  renameSync(`${path}.part`, path)
  return path
}

async function measure(
  cell: Cell,
  peers: readonly Peer[],
): Promise<ReadonlyMap<PeerName, Measured[]>> {
  const measured = new Map<PeerName, Measured[]>(peers.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round += 1) {
    // Each round begins with another server.
    for (let turn = 0; turn < peers.length; turn += 1) {
      const peer = peers[(turn + round) % peers.length]
      if (peer !== undefined) measured.get(peer.name)?.push(await cell.run(peer, IMAGE_BYTES))
    }
  }
  return measured
}

function rowOf(cell: Cell, server: PeerName, measured: ReadonlyMap<PeerName, Measured[]>): Row {
  const own = measured.get(server) ?? []
  const base = measured.get(BASE) ?? []
  const middle = (of: (it: Measured) => number) => median(own.map(of))
  const ratio = (of: (it: Measured) => number): [number, number, number] => {
    const ratios = own.map((it, round) => of(it) / of(base[round] ?? it))
    return [median(ratios), Math.min(...ratios), Math.max(...ratios)]
  }
  return {
    cell: cell.name,
    server,
    iops: middle((it) => it.iops),
    mbPerSecond: middle((it) => it.bytesPerSecond) / 1e6,
    p50Us: middle((it) => it.p50Us),
    p99Us: middle((it) => it.p99Us),
    cpuUsPerOp: middle((it) => it.cpuUsPerOp),
    cpuSecondsPerGb: middle((it) => it.cpuSecondsPerGb),
    iopsRatio: ratio((it) => it.iops),
    cpuRatio: ratio((it) => it.cpuUsPerOp),
  }
}

function goalsOf(): Goal[] {
  const ratio = (cell: string, of: 'iopsRatio' | 'cpuRatio') => {
    const found = rows.find((row) => row.cell === cell && row.server === 'bootwire')
    return Math.round((found?.[of][0] ?? Number.NaN) * 100) / 100
  }
  return [
    { name: 'nbd.iops_4k_qd16_vs_nbdkit', value: ratio('4k qd16', 'iopsRatio'), goal: '≥1.3' },
    { name: 'nbd.cpu_4k_qd16_vs_nbdkit', value: ratio('4k qd16', 'cpuRatio'), goal: '≤0.68' },
    { name: 'nbd.nbdcopy_vs_nbdkit', value: ratio('nbdcopy', 'iopsRatio'), goal: '≥1.1' },
  ]
}

function formatHead(): string {
  const heads = ['IOPS', 'MB/s', 'p50 us', 'p99 us', 'us/op', 's/GB']
  const ratios = 'IOPS ratio [least–most]'.padStart(26) + 'CPU ratio [least–most]'.padStart(26)
  return `\n${''.padEnd(24)}${heads.map((head) => head.padStart(9)).join('')}${ratios}`
}

function formatRow(row: Row): string {
  const { iops, mbPerSecond, p50Us, p99Us, cpuUsPerOp, cpuSecondsPerGb } = row
  const numbers = [
    iops.toFixed(0),
    mbPerSecond.toFixed(0),
    ...[p50Us, p99Us].map((us) => (Number.isNaN(us) ? '' : us.toFixed(0))),
    cpuUsPerOp.toFixed(2),
    cpuSecondsPerGb.toFixed(3),
  ]
  const ratios = [row.iopsRatio, row.cpuRatio].map(([middle, least, most]) =>
    `${middle.toFixed(2)} [${least.toFixed(2)}–${most.toFixed(2)}]`.padStart(26),
  )
  const cells = numbers.map((it) => it.padStart(9)).join('')
  return `${row.cell.padEnd(10)}${row.server.padEnd(14)}${cells}${ratios.join('')}`
}
