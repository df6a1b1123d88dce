/**
 * A client of the stream bench: fetches every chunk of the vDisk into a RAM tier as the agent does,
 * over the agent's session or over the `ws` package, and writes what it cost on a line.
 *
 * usage: stream-client-process.ts agent|ws PORT PIN WINDOW; the last line is a ClientCost
 */

import { Fetcher } from '#agent/fetch/fetcher.ts'
import type { ObjectTransport } from '#agent/fetch/object-transport.ts'
import { RAM_TIER_BYTES_DEFAULT, RamTier } from '#agent/ram-tier/ram-tier.ts'
import { verifiedRoot } from '#agent/session/opened-version.ts'
import { invariant } from '#shared/invariant.ts'
import { BLOCK_BYTES, vdiskBlocks } from '#shared/manifest/tree-shape.ts'
import type { Opened } from '#shared/wire/messages.ts'
import { hello } from '#test/support/agent-messages.ts'
import { createSession } from '#test/support/agent-session.ts'
import { say } from './report.ts'
import { BENCH_VDISK } from './stream-server-process.ts'
import { WsTransport } from './stream-ws-transport.ts'

export interface ClientCost {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly bytes: number
  /** With what was fetched before that. */
  readonly allBytes: number
}

/** What is read at a time: as much as the longest chunk. */
const READ_BLOCKS = 32

/** Read before it is timed, so that the compiler is done; by then the RAM tier has forgotten it. */
const WARM_UP_BLOCKS = 16_384

interface Connected {
  readonly transport: ObjectTransport
  readonly opened: Opened
  readonly close: () => Promise<void> | void
}

if (import.meta.main) await run()

async function run(): Promise<void> {
  const [how, port, pin, window] = process.argv.slice(2)
  invariant((how === 'agent' || how === 'ws') && pin && window, 'agent|ws PORT PIN WINDOW')
  const connected = how === 'agent' ? await byAgent(Number(port), pin) : await byWs(Number(port))
  const { transport, opened } = connected
  const root = verifiedRoot(opened, pin)
  const fetcher = new Fetcher({
    root,
    tier: new RamTier(root.sizeBytes, RAM_TIER_BYTES_DEFAULT),
    transport,
    readahead: false,
    isBoot: false,
    onFault: ({ error }) => {
      throw error
    },
  })
  const blocks = vdiskBlocks(root.sizeBytes)
  // The end of it, so that nothing is left of that when the beginning is timed.
  await readAll(fetcher, { begin: blocks - WARM_UP_BLOCKS, end: blocks }, Number(window))
  const cpuBefore = process.cpuUsage()
  const beginMs = performance.now()
  await readAll(fetcher, { begin: 0, end: blocks }, Number(window))
  const seconds = (performance.now() - beginMs) / 1000
  const { user, system } = process.cpuUsage(cpuBefore)
  const bytes = opened.sizeBytes
  const allBytes = bytes + WARM_UP_BLOCKS * BLOCK_BYTES
  const cost: ClientCost = { seconds, cpuSeconds: (user + system) / 1e6, bytes, allBytes }
  await connected.close()
  say(JSON.stringify(cost))
}

async function byAgent(port: number, pin: string): Promise<Connected> {
  const session = createSession({ port, pin })
  session.start()
  const opened = await session.open({ vdisk: BENCH_VDISK }, new AbortController().signal)
  return { transport: session, opened, close: () => session.bye('halt') }
}

async function byWs(port: number): Promise<Connected> {
  const transport = new WsTransport(port, hello(), BENCH_VDISK)
  const opened = await transport.opened
  return { transport, opened, close: () => transport.close() }
}

interface Range {
  readonly begin: number
  readonly end: number
}

/** Reads blocks in their order, so many reads at a time. */
function readAll(fetcher: Fetcher, { begin, end }: Range, window: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let next = begin
  let left = end - begin
  const read = (): void => {
    if (next >= end) return
    const first = next
    next = Math.min(first + READ_BLOCKS, end)
    let missing = next - first
    fetcher.demand(first, next, {
      onBlocks: (_, blocks) => {
        missing -= blocks
        left -= blocks
        if (left === 0) resolve()
        else if (missing === 0) setImmediate(read)
      },
      onClosed: reject,
    })
  }
  for (let at = 0; at < window; at += 1) read()
  return promise
}
