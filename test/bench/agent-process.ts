/**
 * An agent without a machine: its session, its block layers and its NBD server, on a unix socket
 * instead of the kernel's device. It does nothing before it is told so, so that its own start is not
 * measured. It runs as one file with its workers beside it (agent-bundle.ts), as the agent does.
 *
 * usage: agent-process.ts AGENT_OPTIONS (JSON); then it reads commands, a line each, and answers each
 * with a line of JSON:
 *   go     opens the vDisk and listens: {"address"}
 *   login  ends the boot, as a login prompt does; the server is sent the trace: {}
 *   hydrate  brings all of the version to the local disk: {}
 *   stats  AgentStats
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { type Overlay, type OverlayStats, openOverlay } from '#agent/block/open-overlay.ts'
import { LateDiskCache } from '#agent/disk-cache/late-disk-cache.ts'
import { openDiskCache } from '#agent/disk-cache/open-disk-cache.ts'
import { DiskCopy } from '#agent/fetch/disk-copy.ts'
import { FileDiskDevice } from '#agent/local-disk/disk-device.ts'
import { NbdServer } from '#agent/node-nbd/index.ts'
import { RAM_TIER_BYTES_DEFAULT } from '#agent/ram-tier/ram-tier.ts'
import { verifiedRoot } from '#agent/session/opened-version.ts'
import { invariant } from '#shared/invariant.ts'
import { GiB } from '#shared/units.ts'
import { createSession, type TestSession } from '#test/support/agent-session.ts'
import { say } from './report.ts'

export interface AgentOptions {
  readonly host: string
  readonly port: number
  readonly pin: string
  readonly mac: string
  readonly vdisk: string
  /** Whether the boot list is prefetched, and what is read recorded. */
  readonly isBoot: boolean
  /** A file made by `format-cache`, or none. */
  readonly cachePath?: string
  /** For the socket and the write cache. */
  readonly folder: string
  /** Where the files of the workers lie. */
  readonly programFolder: string
}

export interface AgentStats {
  readonly overlay: OverlayStats
  readonly localCopy: ReturnType<DiskCopy['status']>
  readonly versionId: string
  /** Payload of the server's messages. */
  readonly messageBytes: number
  readonly cpuSeconds: number
  readonly rssBytes: number
}

/** Nothing is written in the benches. */
const WRITE_CACHE_BYTES = GiB

interface Running {
  readonly session: TestSession
  readonly overlay: Overlay
  readonly server: NbdServer
  readonly versionId: string
  readonly localCopy: DiskCopy
  readonly complete: Promise<void>
}

void run()

async function run(): Promise<void> {
  const options = JSON.parse(process.argv[2] ?? '') as AgentOptions
  const diskCache = new LateDiskCache()
  if (options.cachePath !== undefined) await joinCache(diskCache, options.cachePath)
  let running: Running | undefined
  process.on('SIGTERM', () => void end(running).then(() => process.exit()))
  say('ready')
  for await (const command of createInterface({ input: process.stdin })) {
    if (command === 'go') {
      running = await start(options, diskCache)
      say(JSON.stringify({ address: `unix:${socketPath(options)}` }))
      continue
    }
    invariant(running !== undefined, 'first it goes')
    if (command === 'login') {
      running.overlay.endBoot(true)
      say('{}')
    }
    if (command === 'hydrate') {
      running.localCopy.hydrate({ mode: 'run', rateBytesPerSecond: 0 })
      await running.complete
      say('{}')
    }
    if (command === 'stats') say(JSON.stringify(statsOf(running)))
  }
}

async function start(options: AgentOptions, diskCache: LateDiskCache): Promise<Running> {
  const { host, port, pin, vdisk, isBoot, folder, programFolder } = options
  const session = createSession(
    { port, pin },
    {
      servers: [{ host, port }],
      bootId: randomBytes(16).toString('hex'),
      facts: { macs: [options.mac] },
      // As the agent decides it.
      ...(!(isBoot && diskCache.stats().usedBytes === 0) && { firstPushBytes: () => 0 }),
    },
  )
  session.start()
  const opened = await session.open({ vdisk }, new AbortController().signal)
  const complete = Promise.withResolvers<void>()
  const localCopy = new DiskCopy({
    diskCache,
    versionBytes: opened.storedBytes,
    onComplete: (isComplete) => isComplete && complete.resolve(),
  })
  const overlay = await openOverlay({
    root: verifiedRoot(opened, pin),
    versionId: opened.versionId,
    ramTierBytes: RAM_TIER_BYTES_DEFAULT,
    writeCacheFolder: `${folder}/write-cache`,
    writeCacheLimitBytes: WRITE_CACHE_BYTES,
    transport: session,
    diskCache,
    isBoot,
    hotModuleUrl: pathToFileURL(join(programFolder, 'hot-overlay.cjs')).href,
    onNotice: (notice) => say(`notice ${JSON.stringify(notice)}`),
  })
  const server = await NbdServer.listen({
    socketPath: socketPath(options),
    exports: [{ ...overlay.device, name: '', description: '' }],
    workers: {
      transmission: join(programFolder, 'transmission-worker.cjs'),
      reply: join(programFolder, 'reply-worker.cjs'),
    },
  })
  // What is read is measured; the rest comes only when it is told to.
  localCopy.begin(overlay.background, { mode: 'off', rateBytesPerSecond: 0 })
  const { versionId } = opened
  return { session, overlay, server, versionId, localCopy, complete: complete.promise }
}

function socketPath({ folder }: AgentOptions): string {
  return `${folder}/agent.sock`
}

async function joinCache(diskCache: LateDiskCache, path: string): Promise<void> {
  const cache = await openDiskCache({
    device: await FileDiskDevice.open(path),
    onProblem: (problem) => say(`problem ${problem}`),
    hasServer: () => true,
  })
  await diskCache.join(cache)
}

function statsOf({ overlay, session, versionId, localCopy }: Running): AgentStats {
  const { user, system } = process.cpuUsage()
  return {
    overlay: overlay.stats(),
    localCopy: localCopy.status(),
    versionId,
    messageBytes: session.wireBytesReceived,
    cpuSeconds: (user + system) / 1e6,
    rssBytes: process.memoryUsage.rss(),
  }
}

async function end(running: Running | undefined): Promise<void> {
  if (running === undefined) return
  await running.server.close()
  await running.overlay.close()
  await running.localCopy.close()
  await running.session.bye('poweroff')
}
