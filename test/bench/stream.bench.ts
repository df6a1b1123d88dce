/**
 * npm run bench -- stream: the agent's session, fetcher and RAM tier with the product's server over
 * TLS on this machine, against the same with the stock client of `ws`. The two take turns in every
 * round; what counts are the ratios of a round. See README.md.
 *
 *   --rounds N default 9
 *   --json     one JSON object on the last line
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { invariant } from '#shared/invariant.ts'
import { MiB } from '#shared/units.ts'
import { runScript } from '#test/support/child-run.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { ahead } from './ahead.ts'
import { type Goal, median, reportGoals, say } from './report.ts'
import type { ClientCost } from './stream-client-process.ts'

const IMAGE_BYTES = 256 * MiB

/** Reads at a time. */
const WINDOW = 16

/** How chunks travel, and the shell that makes an image whose chunks the store keeps so. */
const IMAGES = {
  raw: 'head -c "$1" /dev/urandom >"$2"',
  zstd: 'tar -cf - -C /usr lib share bin 2>/dev/null | head -c "$1" >"$2"',
} as const
type Encoding = keyof typeof IMAGES

const CLIENTS = ['agent', 'ws'] as const
type Client = (typeof CLIENTS)[number]

/** Ticks of /proc/PID/stat: USER_HZ, which is 100 on every Linux. */
const TICK_SECONDS = 0.01

/** Of one run; costs are CPU seconds per GB of the vDisk. */
interface Measured {
  readonly mbPerSecond: number
  readonly clientCost: number
  readonly serverCost: number
}

type Spread = readonly [median: number, least: number, most: number]

interface Row extends Measured {
  readonly encoding: Encoding
  readonly client: Client
  /** To the ws client in the same round. */
  readonly speedRatio: Spread
  readonly costRatio: Spread
}

const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, rounds: { type: 'string', default: '9' } },
})
const rounds = Number(options.rounds)

class BenchServer implements AsyncDisposable {
  readonly port: number
  readonly pin: string
  readonly #child: ChildProcess

  private constructor(
    child: ChildProcess,
    address: { readonly port: number; readonly pin: string },
  ) {
    this.#child = child
    this.port = address.port
    this.pin = address.pin
  }

  static async start(imagePath: string, folder: string): Promise<BenchServer> {
    const child = spawnNode('stream-server-process.ts', [imagePath, folder])
    invariant(child.stdout !== null, 'stdout is a pipe')
    const [line] = (await once(child.stdout, 'data')) as [Buffer]
    return new BenchServer(child, JSON.parse(line.toString()))
  }

  cpuSeconds(): number {
    const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) * TICK_SECONDS
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGTERM')
    await once(this.#child, 'exit')
  }
}

function spawnNode(program: string, args: readonly string[]): ChildProcess {
  const path = join(import.meta.dirname, program)
  const [command, commandArgs] = ahead([process.execPath, path, ...args])
  return spawn(command, commandArgs, { stdio: ['ignore', 'pipe', 'inherit'] })
}

async function measure(server: BenchServer, client: Client): Promise<Measured> {
  const { port, pin } = server
  const child = spawnNode('stream-client-process.ts', [client, String(port), pin, String(WINDOW)])
  invariant(child.stdout !== null, 'stdout is a pipe')
  // The server also sees what is not timed, and is charged for it by the bytes.
  const serverBefore = server.cpuSeconds()
  const [said] = await Promise.all([text(child.stdout), once(child, 'exit')])
  const serverSeconds = server.cpuSeconds() - serverBefore
  const { seconds, cpuSeconds, bytes, allBytes } = JSON.parse(said) as ClientCost
  return {
    mbPerSecond: bytes / 1e6 / seconds,
    clientCost: cpuSeconds / (bytes / 1e9),
    serverCost: serverSeconds / (allBytes / 1e9),
  }
}

async function measureAll(encoding: Encoding): Promise<Row[]> {
  // In memory: no disk of this machine shall be measured.
  await using folder = await createTemporaryFolder('/dev/shm')
  const image = join(folder.path, 'image')
  await runScript(IMAGES[encoding], [String(IMAGE_BYTES), image])
  const state = join(folder.path, 'state')
  await mkdir(state)
  await using server = await BenchServer.start(image, state)
  const measured: Record<Client, Measured[]> = { agent: [], ws: [] }
  for (let round = 0; round < rounds; round += 1) {
    // Each round begins with the other one.
    const turns = round % 2 === 0 ? CLIENTS : CLIENTS.toReversed()
    for (const client of turns) measured[client].push(await measure(server, client))
  }
  return CLIENTS.map((client) => rowOf(encoding, client, measured))
}

function rowOf(
  encoding: Encoding,
  client: Client,
  measured: Readonly<Record<Client, readonly Measured[]>>,
): Row {
  const own = measured[client]
  const middle = (of: (it: Measured) => number) => median(own.map(of))
  const ratio = (of: (it: Measured) => number): Spread => {
    const ratios = own.map((it, round) => of(it) / of(measured.ws[round] ?? it))
    return [median(ratios), Math.min(...ratios), Math.max(...ratios)]
  }
  return {
    encoding,
    client,
    mbPerSecond: middle((it) => it.mbPerSecond),
    clientCost: middle((it) => it.clientCost),
    serverCost: middle((it) => it.serverCost),
    speedRatio: ratio((it) => it.mbPerSecond),
    costRatio: ratio((it) => it.clientCost),
  }
}

function formatRow({
  encoding,
  client,
  mbPerSecond,
  clientCost,
  serverCost,
  ...ratios
}: Row): string {
  const numbers = [mbPerSecond.toFixed(0), clientCost.toFixed(2), serverCost.toFixed(2)]
  const spreads = [ratios.speedRatio, ratios.costRatio].map(([middle, least, most]) =>
    `${middle.toFixed(2)} [${least.toFixed(2)}–${most.toFixed(2)}]`.padStart(24),
  )
  const cells = numbers.map((it) => it.padStart(14)).join('')
  return `${encoding.padEnd(6)}${client.padEnd(8)}${cells}${spreads.join('')}`
}

function goalsOf(rows: readonly Row[]): Goal[] {
  const of = (encoding: Encoding, ratio: 'speedRatio' | 'costRatio') => {
    const row = rows.find((it) => it.encoding === encoding && it.client === 'agent')
    return Math.round((row?.[ratio][0] ?? Number.NaN) * 100) / 100
  }
  return [
    { name: 'stream.raw_speed_vs_ws', value: of('raw', 'speedRatio'), goal: '≥1.5' },
    { name: 'stream.raw_client_cpu_vs_ws', value: of('raw', 'costRatio'), goal: '≤0.6' },
  ]
}

const heads = ['MB/s', 'client s/GB', 'server s/GB'].map((head) => head.padStart(14)).join('')
const ratioHeads = ['speed ratio', 'client CPU ratio'].map((head) => head.padStart(24)).join('')
say(`${''.padEnd(14)}${heads}${ratioHeads}`)
const rows: Row[] = []
for (const encoding of ['raw', 'zstd'] as const) {
  const measured = await measureAll(encoding)
  for (const row of measured) say(formatRow(row))
  rows.push(...measured)
}
reportGoals('stream', goalsOf(rows), rows)
