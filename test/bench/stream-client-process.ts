/**
 * A client of the stream bench: fetches every chunk of the vDisk into a RAM tier as the agent does,
 * over the agent's session or over the `ws` package, and writes what it cost on a line.
 *
 * usage: stream-client-process.ts agent|ws PORT PIN WINDOW; the last line is a ClientCost
 */

import { ChunkFetcher } from '#agent/block/chunk-fetcher.ts'
import type { ChunkTransport } from '#agent/block/chunk-transport.ts'
import { RAM_TIER_BYTES_DEFAULT, RamTier } from '#agent/block/ram-tier.ts'
import { ChunkDecoder } from '#shared/chunk/chunk-decoder.ts'
import { chunkCount } from '#shared/chunk/chunk-math.ts'
import { invariant } from '#shared/invariant.ts'
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

/** Fetched before it is timed, so that the compiler is done. */
const WARM_UP_CHUNKS = 1_000

interface Connected {
  readonly transport: ChunkTransport
  readonly opened: Opened
  readonly close: () => Promise<void> | void
}

if (import.meta.main) await run()

async function run(): Promise<void> {
  const [how, port, pin, window] = process.argv.slice(2)
  invariant((how === 'agent' || how === 'ws') && pin && window, 'agent|ws PORT PIN WINDOW')
  const connected = how === 'agent' ? await byAgent(Number(port), pin) : await byWs(Number(port))
  const { transport, opened } = connected
  const fetcher = new ChunkFetcher({
    grid: opened,
    tier: new RamTier(opened.sizeBytes, RAM_TIER_BYTES_DEFAULT),
    transport,
    decoder: new ChunkDecoder(),
    readahead: false,
    onUnreadable: (_, error) => {
      throw error
    },
  })
  const chunks = chunkCount(opened)
  const warmUpChunks = Math.min(WARM_UP_CHUNKS, chunks)
  await fetchAll(fetcher, warmUpChunks, Number(window))
  const cpuBefore = process.cpuUsage()
  const beginMs = performance.now()
  await fetchAll(fetcher, chunks, Number(window))
  const seconds = (performance.now() - beginMs) / 1000
  const { user, system } = process.cpuUsage(cpuBefore)
  const bytes = opened.sizeBytes
  const allBytes = bytes + warmUpChunks * opened.chunkBytes
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

/** Asks for the chunks in their order, so many at a time. */
function fetchAll(fetcher: ChunkFetcher, chunks: number, window: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let asked = 0
  let done = 0
  const ask = () => {
    if (asked === chunks) return
    asked += 1
    fetcher.demand(asked - 1, (error) => {
      if (error !== undefined) return reject(error)
      done += 1
      if (done === chunks) resolve()
      else ask()
    })
  }
  for (let at = 0; at < window; at += 1) ask()
  return promise
}
