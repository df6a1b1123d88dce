/**
 * Many clients that boot at once, in one process: each with a session, a fetcher and a RAM tier of its
 * own, as the agent has them, but without NBD and a machine; or each with an NBD connection.
 *
 * usage: storm-clients-process.ts STORM_OPTIONS (JSON); then it reads commands, a line each, and
 * answers each with a line of JSON:
 *   open   ours only: every client opens its vDisk, and stays so: {}
 *   boot   every client boots, from its connection to its last byte: StormReport
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { type Overlay, openOverlay } from '#agent/block/open-overlay.ts'
import { verifiedRoot } from '#agent/session/opened-version.ts'
import { invariant } from '#shared/invariant.ts'
import { MiB } from '#shared/units.ts'
import type { Opened } from '#shared/wire/messages.ts'
import { createSession, type TestSession } from '#test/support/agent-session.ts'
import { type NbdAddress, NbdReader } from './nbd-reader.ts'
import { parseRecord, THINK_DIVISOR, untilUp } from './record-boot.ts'
import { type Read, replay } from './replay.ts'
import { plannedBytes, planReplay, type ReplayPlan } from './replay-plan.ts'
import { say } from './report.ts'

export type StormOptions = {
  readonly recordPath: string
  readonly clients: number
  /** Number of the first of them. */
  readonly first: number
} & (
  | { readonly nbd: NbdAddress }
  | { readonly server: { readonly host: string; readonly port: number; readonly pin: string } }
)

export interface StormReport {
  /** Of each client. */
  readonly bootMs: readonly number[]
  /** Of all of them together. */
  readonly readBytes: number
  readonly cpuSeconds: number
}

/** A boot reads little of what it has read before; many clients share the memory here. */
const RAM_TIER_BYTES: number = 16 * MiB

const VDISK = 'current'

interface OpenClient {
  readonly session: TestSession
  readonly opened: Opened
}

if (import.meta.main) await run()

async function run(): Promise<void> {
  const options = JSON.parse(process.argv[2] ?? '') as StormOptions
  const plan = planReplay(
    untilUp(parseRecord(readFileSync(options.recordPath, 'utf8'))),
    THINK_DIVISOR,
  )
  const indexes = Array.from({ length: options.clients }, (_, at) => options.first + at)
  const open: OpenClient[] = []
  say('ready')
  for await (const command of createInterface({ input: process.stdin })) {
    if (command === 'open') {
      for (const index of indexes) open.push(await openVdisk(options, index, false))
      say('{}')
    }
    if (command === 'boot') {
      const bootMs = await Promise.all(indexes.map((index) => boot(options, index, plan)))
      const { user, system } = process.cpuUsage()
      const readBytes = plannedBytes(plan) * indexes.length
      const report: StormReport = { bootMs, readBytes, cpuSeconds: (user + system) / 1e6 }
      say(JSON.stringify(report))
    }
  }
  await Promise.all(open.map(({ session }) => session.bye('poweroff')))
}

/** Returns how long it took. */
async function boot(options: StormOptions, index: number, plan: ReplayPlan): Promise<number> {
  const beginMs = performance.now()
  const elapsedMs = () => performance.now() - beginMs
  if ('nbd' in options) {
    const reader = await NbdReader.connect(options.nbd)
    await replay(plan, (offset, size, done) => reader.read(offset, size, done))
    const bootMs = elapsedMs()
    reader.close()
    return bootMs
  }
  const { session, opened } = await openVdisk(options, index, true)
  const overlay = await openOverlay({
    root: verifiedRoot(opened, options.server.pin),
    versionId: opened.versionId,
    ramTierBytes: RAM_TIER_BYTES,
    writeCacheFolder: '',
    writeCacheLimitBytes: 0,
    readOnly: true,
    transport: session,
    isBoot: true,
    onNotice: (notice) => say(`notice ${JSON.stringify(notice)}`),
  })
  await replay(plan, readerOf(overlay))
  const bootMs = elapsedMs()
  const { objectsCorrupt, prefetch } = overlay.stats()
  invariant(objectsCorrupt === 0 && prefetch.pushedBytes > 0, 'the boot is foreseen, and proven')
  await overlay.close()
  await session.bye('poweroff')
  return bootMs
}

async function openVdisk(
  options: StormOptions,
  index: number,
  isBoot: boolean,
): Promise<OpenClient> {
  invariant('server' in options, 'clients of ours')
  const { host, port, pin } = options.server
  const session = createSession(
    { port, pin },
    {
      servers: [{ host, port }],
      bootId: randomBytes(16).toString('hex'),
      facts: { macs: [macOf(index)] },
      ...(!isBoot && { firstPushBytes: () => 0 }),
    },
  )
  session.start()
  const opened = await session.open({ vdisk: VDISK }, new AbortController().signal)
  return { session, opened }
}

function readerOf({ device: { cold } }: Overlay): Read {
  invariant(cold !== undefined, 'an overlay has a cold device')
  return (offsetBytes, sizeBytes, done) => {
    const target = Buffer.allocUnsafe(sizeBytes)
    cold.read(offsetBytes, target).then(done, (error: unknown) => {
      throw error
    })
  }
}

function macOf(index: number): string {
  const [high, low] = [index >> 8, index & 0xff].map((it) => it.toString(16).padStart(2, '0'))
  return `52:54:00:01:${high}:${low}`
}
