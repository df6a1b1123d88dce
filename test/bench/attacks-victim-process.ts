/**
 * A client that runs: reads on and on, one chunk after the other with a pause between, and knows how long each
 * took.
 *
 * usage: attacks-victim-process.ts PORT PIN MAC; for each line it is told, a number of seconds, it reads for that
 * long and writes a VictimReport
 */
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fetcher } from '#agent/fetch/fetcher.ts'
import { RAM_TIER_BYTES_MIN, RamTier } from '#agent/ram-tier/ram-tier.ts'
import { verifiedRoot } from '#agent/session/opened-version.ts'
import { invariant } from '#shared/invariant.ts'
import { vdiskBlocks } from '#shared/manifest/tree-shape.ts'
import { createSession } from '#test/support/agent-session.ts'
import { say } from './report.ts'
import { BENCH_VDISK } from './stream-server-process.ts'

export interface VictimReport {
  readonly reads: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const READ_BLOCKS = 8
/** Longer than any chunk, so that each read is one of the server's. */
const STRIDE_BLOCKS = 40
const PAUSE_MS = 4

const [port, pin, mac] = process.argv.slice(2)
invariant(port !== undefined && pin !== undefined && mac !== undefined, 'PORT PIN MAC')
const session = createSession({ port: Number(port), pin }, { facts: { macs: [mac] } })
session.start()
const opened = await session.open({ vdisk: BENCH_VDISK }, new AbortController().signal)
const root = verifiedRoot(opened, pin)
const fetcher = new Fetcher({
  root,
  tier: new RamTier(root.sizeBytes, RAM_TIER_BYTES_MIN),
  transport: session,
  readahead: false,
  isBoot: false,
  onFault: ({ error }) => {
    throw error
  },
})
const blocks = vdiskBlocks(root.sizeBytes)
let next = 0

say('ready')
for await (const line of createInterface({ input: process.stdin })) {
  say(JSON.stringify(await readFor(Number(line) * 1000)))
}
process.exit()

async function readFor(durationMs: number): Promise<VictimReport> {
  const took: number[] = []
  for (const endMs = performance.now() + durationMs; performance.now() < endMs; ) {
    const beginMs = performance.now()
    await read(next)
    took.push(performance.now() - beginMs)
    next = (next + STRIDE_BLOCKS) % (blocks - READ_BLOCKS)
    await sleep(PAUSE_MS)
  }
  took.sort((a, b) => a - b)
  const at = (part: number) => took[Math.floor(part * (took.length - 1))] ?? Number.NaN
  return { reads: took.length, p50Ms: at(0.5), p99Ms: at(0.99) }
}

function read(first: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let missing = READ_BLOCKS
  fetcher.demand(first, first + READ_BLOCKS, {
    onBlocks: (_, count) => {
      missing -= count
      if (missing === 0) resolve()
    },
    onClosed: reject,
  })
  return promise
}
