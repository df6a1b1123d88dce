/**
 * A server with one system in two versions, and what its clients have when a bench begins: the first
 * version was booted once, so that its boots are foreseen; the second was imported after that, updated
 * in place and rebuilt, each as the next version of a vDisk of its own; and a client's disk holds all
 * of the first version. It outlives servers and links.
 */
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { formatCache } from '#agent/disk-cache/format-cache.ts'
import { FileDiskDevice } from '#agent/local-disk/disk-device.ts'
import type { TraceView } from '#server/admin/admin-api.ts'
import { invariant } from '#shared/invariant.ts'
import { GiB } from '#shared/units.ts'
import { CACHE_FOLDER } from '#test/support/build-cache.ts'
import { runProgram } from '#test/support/child-run.ts'
import { eventually } from '#test/support/eventually.ts'
import { BENCH_MAC, BenchAgent } from './agents.ts'
import {
  type BenchImages,
  type BenchSystem,
  ensureBenchImages,
  UPDATES,
  type Update,
} from './bench-images.ts'
import { BenchServer } from './bench-server.ts'
import { BenchProcess, benchProgram } from './child.ts'
import { GBIT, Link, type LinkShape, MBIT } from './link.ts'
import { bootRecordPath, ensureBootRecord, THINK_DIVISOR } from './record-boot.ts'
import { say } from './report.ts'

/** The vDisk whose first version is in production; those of the updates are called as they are. */
const CURRENT_VDISK = 'current'

/** Clients of the benches have no place for a key. */
const FOR_ANYONE = ['--access', 'anyone']

/** A link that costs nothing worth mentioning. */
const LAN: LinkShape = { roundTripMs: 0.2, bitsPerSecond: GBIT }

/** One that is slower than any disk: what comes faster than that takes it is asked for once more. */
export const HYDRATION_LINK: LinkShape = { roundTripMs: 0.2, bitsPerSecond: 100 * MBIT }

/** Room for both versions; what is not written takes none. */
const CACHE_BYTES: number = 4 * GiB

const CARRY_OVER_TIMEOUT_MS = 60_000

export class BenchSite implements AsyncDisposable {
  readonly system: BenchSystem
  readonly images: BenchImages
  readonly folder: string
  /** The disk of a client that has all of version 1. */
  readonly fullCachePath: string

  private constructor(images: BenchImages, folder: string) {
    this.system = images.system
    this.images = images
    this.folder = folder
    this.fullCachePath = join(folder, 'full-cache.img')
  }

  static async prepare(system: BenchSystem): Promise<BenchSite> {
    const images = await ensureBenchImages(system)
    const { boots } = images
    for (const number of [1, 2]) await ensureBootRecord(boots.before, number)
    for (const update of UPDATES) await ensureBootRecord(boots[update])
    await mkdir(join(CACHE_FOLDER, 'bench'), { recursive: true })
    const folder = await mkdtemp(join(CACHE_FOLDER, 'bench', `site-${system}-`))
    const site = new BenchSite(images, folder)
    try {
      await site.#import()
      await site.#fill()
      await site.#fillCache()
    } catch (error) {
      await site[Symbol.asyncDispose]()
      throw error
    }
    return site
  }

  /** The boot that is replayed; the one that was traced is another. */
  recordPath(what: 'current' | Update): string {
    const { boots } = this.images
    return what === 'current' ? bootRecordPath(boots.before, 2) : bootRecordPath(boots[what], 1)
  }

  imagePath(what: 'current' | Update): string {
    return what === 'current' ? this.images.before : this.images.after[what]
  }

  vdisk(what: 'current' | Update): string {
    return what === 'current' ? CURRENT_VDISK : what.replace(' ', '-')
  }

  /** `untraced`: as it was when version 1 was imported, and nobody had booted it. */
  async startServer(link: Link, state: 'state' | 'untraced' = 'state'): Promise<BenchServer> {
    const stateFolder = join(this.folder, state)
    return await BenchServer.start({ link, stateFolder, vdisk: CURRENT_VDISK })
  }

  /** A file of its own, to be removed by the caller. */
  async copyFullCache(): Promise<string> {
    const copy = join(await mkdtemp(join(this.folder, 'cache-')), 'cache.img')
    await runProgram('cp', ['--sparse=always', this.fullCachePath, copy])
    return copy
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true })
  }

  async #import(): Promise<void> {
    say(`importing ${this.system}, and booting it once`)
    await using link = await Link.create(LAN)
    {
      await using server = await this.startServer(link)
      await server.run(
        'vdisk',
        'import',
        this.images.before,
        '--name',
        CURRENT_VDISK,
        ...FOR_ANYONE,
      )
      await untilForeseen(server, CURRENT_VDISK, 'guessed')
    }
    await runProgram('cp', ['-a', join(this.folder, 'state'), join(this.folder, 'untraced')])
  }

  async #fill(): Promise<void> {
    await using link = await Link.create(LAN)
    await using server = await this.startServer(link)
    await this.#bootOnce(link, server)
    for (const update of UPDATES) {
      const name = this.vdisk(update)
      await server.run('vdisk', 'import', this.images.before, '--name', name, ...FOR_ANYONE)
      const next = ['vdisk', 'import', this.images.after[update], '--name', name, '--promote']
      await server.run(...next)
      await untilForeseen(server, name, 'carried')
    }
    await server.run('client', 'assign', BENCH_MAC, ...UPDATES.map((it) => this.vdisk(it)))
  }

  /** The first boot of version 1, which the server learns from. */
  async #bootOnce(link: Link, server: BenchServer): Promise<void> {
    await using agent = await BenchAgent.start(link, server, { vdisk: CURRENT_VDISK, isBoot: true })
    const record = bootRecordPath(this.images.boots.before, 1)
    const program = benchProgram('replay-process.ts', [record, 'all', String(THINK_DIVISOR)])
    await using machine = await BenchProcess.start(link.client.command(program))
    await machine.line()
    machine.tell(await agent.open())
    await machine.line()
    await agent.login()
    await untilForeseen(server, CURRENT_VDISK, 'recorded')
  }

  async #fillCache(): Promise<void> {
    await using link = await Link.create(HYDRATION_LINK)
    await using server = await this.startServer(link)
    await makeCache(this.fullCachePath)
    await using agent = await BenchAgent.start(link, server, {
      vdisk: CURRENT_VDISK,
      isBoot: false,
      cachePath: this.fullCachePath,
    })
    await agent.open()
    await agent.hydrate()
  }
}

/** An empty disk cache, in a file. */
export async function makeCache(path: string): Promise<void> {
  const file = await open(path, 'w')
  await file.truncate(CACHE_BYTES)
  await file.close()
  const device = await FileDiskDevice.open(path)
  await formatCache(device)
  await device.close()
}

async function untilForeseen(
  server: BenchServer,
  vdisk: string,
  source: TraceView['source'],
): Promise<void> {
  let last: TraceView | undefined
  await eventually(
    `boots of ${vdisk} are foreseen`,
    async () => {
      last = await server.json<TraceView>('vdisk', 'trace', vdisk)
      return last.source === source
    },
    CARRY_OVER_TIMEOUT_MS,
  )
  invariant(last !== undefined && last.chunks.length > 0, 'the list of a boot has chunks')
}
