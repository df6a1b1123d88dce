/** One run of a replay: who serves the machine, and what it took. */

import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import type { AgentStats } from './agent-process.ts'
import { BenchAgent } from './agents.ts'
import type { Update } from './bench-images.ts'
import type { BenchServer } from './bench-server.ts'
import type { BenchSite } from './bench-site.ts'
import { BenchProcess, benchProgram } from './child.ts'
import type { Link } from './link.ts'
import type { NbdAddress } from './nbd-reader.ts'
import { dropPageCache } from './page-cache.ts'
import { PeerClient, PeerServers, type ReplayPeer } from './replay-peers.ts'
import type { ReplayReport } from './replay-process.ts'

/**
 * demand: nothing is brought before it is asked for, and nothing is on the client; cold: the first boot
 * of what was imported, which the server can only guess at; traced: the server knows an earlier boot; warm: the client's disk has the version; next: it has the version before, and no boot of this
 * one is known; carried: the same without a disk.
 */
export const OURS = [
  'demand',
  'cold',
  'traced',
  'warm',
  'next in place',
  'next rebuilt',
  'carried in place',
  'carried rebuilt',
] as const
export type Ours = (typeof OURS)[number]
export type Subject = ReplayPeer | Ours

/** What each of them boots. */
const VERSIONS: Readonly<Record<Ours, 'current' | Update>> = {
  demand: 'current',
  cold: 'current',
  traced: 'current',
  warm: 'current',
  'next in place': 'in place',
  'next rebuilt': 'rebuilt',
  'carried in place': 'in place',
  'carried rebuilt': 'rebuilt',
}

const ON_DISK: readonly Ours[] = ['warm', 'next in place', 'next rebuilt']

export interface RunOptions {
  readonly thinkDivisor: number
  /** What lies on this side is read from its disk. */
  readonly dropCaches?: boolean
  /** Every byte is compared with the image. */
  readonly verify?: boolean
  /** All that was recorded, also what was read after the system was up. */
  readonly isWhole?: boolean
}

export interface Run {
  /** From the first packet to the last byte that was read. */
  readonly totalMs: number
  /** Of these, until the vDisk could be read … */
  readonly openMs: number
  /** … and the machine's connection to it was made. */
  readonly connectMs: number
  readonly report: ReplayReport
  /** Over the link, both directions, as its interfaces count. */
  readonly wireBytes: number
  readonly agent?: AgentStats
}

/** Everybody who can serve a machine of the site, over one link. */
export class Stand implements AsyncDisposable {
  readonly site: BenchSite
  readonly link: Link
  readonly #server: BenchServer
  /** One that knows of no boot. */
  readonly #untraced: BenchServer
  readonly #parts: AsyncDisposableStack

  private constructor(
    site: BenchSite,
    link: Link,
    servers: { readonly server: BenchServer; readonly untraced: BenchServer },
    parts: AsyncDisposableStack,
  ) {
    this.site = site
    this.link = link
    this.#server = servers.server
    this.#untraced = servers.untraced
    this.#parts = parts
  }

  static async open(site: BenchSite, link: Link): Promise<Stand> {
    await using parts = new AsyncDisposableStack()
    const server = parts.use(await site.startServer(link))
    const untraced = parts.use(await site.startServer(link, 'untraced'))
    parts.use(await PeerServers.start(link, site.images.before))
    return new Stand(site, link, { server, untraced }, parts.move())
  }

  async run(subject: Subject, options: RunOptions): Promise<Run> {
    const isOurs = (OURS as readonly string[]).includes(subject)
    return await (isOurs
      ? this.#runOurs(subject as Ours, options)
      : this.#runPeer(subject as ReplayPeer, options))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync()
  }

  async #runPeer(peer: ReplayPeer, options: RunOptions): Promise<Run> {
    const image = this.site.images.before
    await using folder = await createTemporaryFolder()
    const where = { link: this.link, image, folder: folder.path }
    await using client = await PeerClient.start(peer, where)
    await using machine = await this.#startMachine('current', options)
    if (options.dropCaches === true) await dropPageCache(image)
    return await this.#measure(machine, async () => client.address)
  }

  async #runOurs(subject: Ours, options: RunOptions): Promise<Run> {
    const { site, link } = this
    const server = subject === 'cold' ? this.#untraced : this.#server
    const what = VERSIONS[subject]
    const cachePath = ON_DISK.includes(subject) ? await site.copyFullCache() : undefined
    try {
      await using machine = await this.#startMachine(what, options)
      if (cachePath !== undefined && options.dropCaches === true) await dropPageCache(cachePath)
      await using agent = await BenchAgent.start(link, server, {
        vdisk: site.vdisk(what),
        isBoot: subject !== 'demand',
        ...(cachePath !== undefined && { cachePath }),
      })
      const run = await this.#measure(machine, () => agent.open())
      return { ...run, agent: await agent.stats() }
    } finally {
      if (cachePath !== undefined) await rm(dirname(cachePath), { recursive: true })
    }
  }

  async #startMachine(what: 'current' | Update, options: RunOptions): Promise<BenchProcess> {
    const { site, link } = this
    const image = options.verify === true ? [site.imagePath(what)] : []
    const until = options.isWhole === true ? 'all' : 'up'
    const args = [site.recordPath(what), until, String(options.thinkDivisor), ...image]
    const program = benchProgram('replay-process.ts', args)
    const machine = await BenchProcess.start(link.client.command(program))
    await machine.line()
    return machine
  }

  async #measure(machine: BenchProcess, open: () => Promise<NbdAddress>): Promise<Run> {
    const before = this.link.wireBytes()
    const beginMs = performance.now()
    const address = await open()
    const openMs = performance.now() - beginMs
    machine.tell(address)
    const report = await machine.json<ReplayReport>()
    const wireBytes = this.link.wireBytes() - before
    const { connectMs, runMs } = report
    return {
      totalMs: openMs + connectMs + runMs,
      openMs,
      connectMs,
      report,
      wireBytes,
    }
  }
}
