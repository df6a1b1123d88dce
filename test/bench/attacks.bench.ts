/**
 * npm run bench -- attacks: what somebody on the network gets who may have nothing, and what a running client
 * feels of it. See README.md.
 *
 *   --rounds N   default 3
 *   --json       one JSON object on the last line
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { silentLog } from '#server/log.ts'
import { Session } from '#server/stream/session.ts'
import { STREAM_LIMITS } from '#server/stream/stream-server.ts'
import { MiB } from '#shared/units.ts'
import { encodeMessage } from '#shared/wire/codec.ts'
import { hello } from '#test/support/agent-messages.ts'
import { ATTACKS } from '#test/support/attacks.ts'
import { runScript } from '#test/support/child-run.ts'
import { FakeSessionSocket } from '#test/support/fake-session-socket.ts'
import { seededRandom } from '#test/support/seeded-random.ts'
import { createTestCore, type TestCore } from '#test/support/server-core.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import type { FloodReport } from './attacks-flood-process.ts'
import type { VictimReport } from './attacks-victim-process.ts'
import { BenchProcess, benchProgram } from './child.ts'
import { type Goal, median, reportGoals, say } from './report.ts'

const IMAGE_BYTES = 256 * MiB
const VICTIM_MAC = '52:54:00:00:00:01'

const CONNECTIONS = 2000
const HANDSHAKES_PER_SECOND = 200
/** So many that each has fewer connections than one may have. */
const ADDRESSES = 16
const ROUND_SECONDS = 15

const FUZZED_FRAMES = 20_000
const FUZZ_SEED = 20_261_126
const FUZZED_BYTES_MAX = 300

interface Tried {
  readonly name: string
  readonly tried: number
  readonly breaches: number
  /** With the guard down it gets through. */
  readonly controlled: boolean
}

interface Felt extends VictimReport {
  readonly flooded: 'the server' | 'another server'
  readonly held: number
  readonly handshakesPerSecond: number
  /** Memory of the flooded server before and during it. */
  readonly idleMb: number
  readonly serverMb: number
}

const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, rounds: { type: 'string', default: '3' } },
})

const tried = [...(await tryAttacks()), await fuzz()]
const felt = await flood(tried)
reportGoals('attacks', goalsOf(), [...tried, ...felt])

async function tryAttacks(): Promise<Tried[]> {
  say('attack | breaches | gets through with the guard down')
  const results: Tried[] = []
  for (const { name, tryWith } of ATTACKS) {
    const breaches = Number(await tryWith('up'))
    const controlled = await tryWith('down')
    results.push({ name, tried: 1, breaches, controlled })
    say(`${name} | ${breaches} | ${controlled ? 'yes' : 'no'}`)
  }
  return results
}

/** What is no hello gets no answer but the end, and throws nothing. Control: a hello gets one. */
async function fuzz(): Promise<Tried> {
  const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'lab' } })
  const random = seededRandom(FUZZ_SEED)
  const valid = encodeMessage(hello())
  let breaches = 0
  for (let at = 0; at < FUZZED_FRAMES; at += 1) {
    const isAnswered = await answered(core, at % 2 === 0 ? mangled(valid, random) : noise(random))
    if (isAnswered === 'failed') breaches += 1
  }
  const controlled = (await answered(core, valid)) === 'identified'
  const name = `frames that are damaged or noise (seed ${FUZZ_SEED})`
  say(`${name}: ${FUZZED_FRAMES} | ${breaches} | ${controlled ? 'yes' : 'no'}`)
  return { name, tried: FUZZED_FRAMES, breaches, controlled }
}

/** A damaged hello may still be one; anything else than that or the end is a fault. */
async function answered(
  core: TestCore,
  frame: Uint8Array,
): Promise<'identified' | 'refused' | 'failed'> {
  const socket = new FakeSessionSocket()
  const session = new Session(socket, '192.0.2.1', {
    ...core,
    settings: { serverName: 'server', menuSeconds: 10, enrolSecret: Buffer.alloc(32) },
    now: () => core.clock.nowMs,
    log: silentLog(),
  })
  try {
    session.receive(frame)
    const item = await socket.next()
    session.disconnected()
    if (!('message' in item)) return 'refused'
    const { kind } = item.message
    if (kind === 'identity' || kind === 'challenge') return 'identified'
    return kind === 'error' ? 'refused' : 'failed'
  } catch {
    return 'failed'
  }
}

function mangled(frame: Uint8Array, random: () => number): Uint8Array {
  const bytes = Uint8Array.from(frame)
  const changes = 1 + Math.floor(random() * 4)
  for (let at = 0; at < changes; at += 1) {
    bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256)
  }
  return random() < 0.2 ? bytes.subarray(0, Math.floor(random() * bytes.length)) : bytes
}

function noise(random: () => number): Uint8Array {
  const bytes = new Uint8Array(1 + Math.floor(random() * FUZZED_BYTES_MAX))
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = Math.floor(random() * 256)
  return bytes
}

/**
 * The same flood at the server that the client reads from, and at another one like it: then the machine is as
 * busy, and the server is not.
 */
async function flood(tried: Tried[]): Promise<Felt[]> {
  await using folder = await createTemporaryFolder()
  const image = join(folder.path, 'image')
  await runScript('head -c "$1" /dev/urandom >"$2"', [`${IMAGE_BYTES}`, image])
  await using server = await startServer(image, join(folder.path, 'server'))
  await using other = await startServer(image, join(folder.path, 'other'))
  const victim = benchProgram('attacks-victim-process.ts', [
    String(server.port),
    server.pin,
    VICTIM_MAC,
  ])
  await using reader = await BenchProcess.start(victim)
  await reader.line()
  await readFor(reader) // the compiler is done
  const results: Felt[] = []
  for (let round = 0; round < Number(options.rounds); round += 1) {
    for (const [flooded, target] of [
      ['another server', other],
      ['the server', server],
    ] as const) {
      const idleMb = target.process.residentBytes() / MiB
      const { held, ...victims } = await readUnder(reader, target)
      const serverMb = target.process.residentBytes() / MiB
      const row: Felt = { flooded, ...victims, held, idleMb, serverMb }
      results.push(row)
      const { p50Ms, p99Ms, reads, handshakesPerSecond } = row
      say(
        `flooded: ${flooded}: ${held} connections, ${handshakesPerSecond.toFixed(0)} handshakes/s; ${reads} reads, p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms; server ${idleMb.toFixed(0)} MiB before, ${serverMb.toFixed(0)} MiB then`,
      )
    }
  }
  tried.push(await fromOneAddress(other, results))
  return results
}

/** Control: as many, from many addresses. */
async function fromOneAddress({ port }: BenchTarget, floods: readonly Felt[]): Promise<Tried> {
  const args = [port, CONNECTIONS, 1, 0].map(String)
  await using flooding = await BenchProcess.start(benchProgram('attacks-flood-process.ts', args))
  const { held } = await flooding.json<FloodReport>()
  flooding.end()
  const breaches = Number(held > STREAM_LIMITS.connectionsPerAddressMax)
  const controlled = floods.every((row) => row.held === CONNECTIONS)
  const name = 'connections of one address, beyond what it may have'
  say(`${name}: ${CONNECTIONS} tried, ${held} held | ${breaches} | ${controlled ? 'yes' : 'no'}`)
  return { name, tried: CONNECTIONS, breaches, controlled }
}

async function readUnder(reader: BenchProcess, { port }: BenchTarget) {
  const args = [port, CONNECTIONS, ADDRESSES, HANDSHAKES_PER_SECOND].map(String)
  await using flooding = await BenchProcess.start(benchProgram('attacks-flood-process.ts', args))
  await flooding.json<FloodReport>()
  const victims = await readFor(reader)
  flooding.end()
  const { held, handshakes, seconds } = await flooding.json<FloodReport>()
  return { ...victims, held, handshakesPerSecond: handshakes / seconds }
}

async function readFor(reader: BenchProcess): Promise<VictimReport> {
  reader.tell(String(ROUND_SECONDS))
  return await reader.json<VictimReport>()
}

interface BenchTarget extends AsyncDisposable {
  readonly process: BenchProcess
  readonly port: number
  readonly pin: string
}

async function startServer(image: string, folder: string): Promise<BenchTarget> {
  await mkdir(folder)
  const program = benchProgram('stream-server-process.ts', [image, folder, VICTIM_MAC])
  const child = await BenchProcess.start(program)
  const { port, pin } = await child.json<{ port: number; pin: string }>()
  return { process: child, port, pin, [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() }
}

function goalsOf(): Goal[] {
  const p99 = (flooded: Felt['flooded']) =>
    median(felt.filter((row) => row.flooded === flooded).map(({ p99Ms }) => p99Ms))
  const all = tried.reduce((sum, row) => sum + row.tried, 0)
  const breaches = tried.reduce((sum, row) => sum + row.breaches, 0)
  const uncontrolled = tried.filter(({ controlled }) => !controlled).length
  const ratio = p99('the server') / p99('another server')
  return [
    { name: 'attacks.tried', value: all, goal: '' },
    { name: 'attacks.without_control', value: uncontrolled, goal: '0' },
    { name: 'attacks.breaches', value: breaches, goal: '0' },
    {
      name: 'attacks.held',
      value: Math.min(...felt.map(({ held }) => held)),
      goal: `${CONNECTIONS}`,
    },
    { name: 'attacks.victim_p99_vs_quiet', value: Number(ratio.toFixed(2)), goal: '<= 1.5' },
  ]
}
