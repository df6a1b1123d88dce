/**
 * npm run bench -- update: what the next version costs a client that has all of the one before. See
 * README.md.
 *
 *   --system NAME  only minimal or desktop
 *   --json         one JSON object on the last line
 */
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { invariant } from '#shared/invariant.ts'
import { KiB } from '#shared/units.ts'
import { BenchAgent } from './agents.ts'
import { BENCH_SYSTEMS, type BenchSystem, UPDATES, type Update } from './bench-images.ts'
import { BenchSite, HYDRATION_LINK } from './bench-site.ts'
import { casyncChunks } from './chunking-casync.ts'
import { type Chunk, cutImage, newChunks } from './chunking-chunks.ts'
import { fixedCut } from './chunking-cutters.ts'
import { compress } from './chunking-delta.ts'
import { type DiskImage, loadImage } from './chunking-image.ts'
import { Link, type LinkShape } from './link.ts'
import { type Goal, reportGoals, say } from './report.ts'

/** The peers, each by its chunks of an image. */
const PEERS: Readonly<Record<string, (image: DiskImage) => Promise<readonly Chunk[]>>> = {
  '4 KiB dedup': async (image) => await Promise.resolve(cutImage(image, fixedCut(4 * KiB)).chunks),
  'casync 16 KiB': async (image) => await casyncChunks(image, 16 * KiB),
  'casync 64 KiB': async (image) => await casyncChunks(image, 64 * KiB),
}

interface Row {
  readonly system: BenchSystem
  readonly update: Update
  /** Everything that TCP carried, both directions, TLS included. */
  readonly bytes: number
  /** The same with the headers of TCP, IP and Ethernet. */
  readonly wireBytes: number
  /** Compressed new chunks; of what names them nothing is counted. */
  readonly peerBytes: Readonly<Record<string, number>>
  readonly vsBest: number
}

const link: LinkShape = { ...HYDRATION_LINK, exactCounters: true }

const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, system: { type: 'string' } },
})

const rows: Row[] = []
for (const system of BENCH_SYSTEMS) {
  if (options.system === undefined || options.system === system) await measure(system)
}
reportGoals('update', goalsOf(), rows)

async function measure(system: BenchSystem): Promise<void> {
  await using site = await BenchSite.prepare(system)
  const peers = await measurePeers(site)
  const heads = ['update', 'ours MB', 'with headers', ...Object.keys(PEERS), '× best']
  say(`\n${system}\n| ${heads.join(' | ')} |\n${'|---'.repeat(heads.length)}|`)
  for (const update of UPDATES) {
    const peerBytes = peers[update]
    const ours = await hydrate(site, update)
    const vsBest = ours.bytes / Math.min(...Object.values(peerBytes))
    rows.push({ system, update, ...ours, peerBytes, vsBest })
    const sizes = [ours.bytes, ours.wireBytes, ...Object.values(peerBytes)]
    const cells = [update, ...sizes.map((bytes) => (bytes / 1e6).toFixed(1)), vsBest.toFixed(3)]
    say(`| ${cells.join(' | ')} |`)
  }
}

/** A client whose disk has version 1 brings version 2 there; then it has it, without the server. */
async function hydrate(site: BenchSite, update: Update) {
  const cachePath = await site.copyFullCache()
  try {
    await using network = await Link.create(link)
    await using server = await site.startServer(network)
    const setup = { vdisk: site.vdisk(update), isBoot: false, cachePath }
    await using agent = await BenchAgent.start(network, server, setup)
    const wireBefore = network.wireBytes()
    await agent.open()
    await agent.hydrate()
    const bytes = await network.client.tcpBytes(server.port)
    const wireBytes = network.wireBytes() - wireBefore
    const { hydration } = (await agent.stats()).localCopy
    invariant(hydration.mode === 'complete', 'all of the version is on the disk')
    invariant(bytes > 0 && wireBytes > bytes, 'what came was counted')
    return { bytes, wireBytes }
  } finally {
    await rm(dirname(cachePath), { recursive: true })
  }
}

async function measurePeers(site: BenchSite): Promise<Record<Update, Record<string, number>>> {
  const sizes: Record<Update, Record<string, number>> = { 'in place': {}, rebuilt: {} }
  const before = loadImage(site.images.before)
  const beforeChunks = new Map<string, readonly Chunk[]>()
  for (const [name, cut] of Object.entries(PEERS)) beforeChunks.set(name, await cut(before))
  for (const update of UPDATES) {
    const after = loadImage(site.images.after[update])
    for (const [name, cut] of Object.entries(PEERS)) {
      const fresh = newChunks(await cut(after), beforeChunks.get(name) ?? [])
      sizes[update][name] = fresh.reduce((sum, { bytes }) => {
        return sum + Math.min(bytes.length, compress(bytes).length)
      }, 0)
    }
  }
  return sizes
}

function goalsOf(): Goal[] {
  const worst = Math.max(...rows.map(({ vsBest }) => vsBest))
  return [{ name: 'update.bytes_vs_best', value: Math.round(worst * 1000) / 1000, goal: '≤1.1' }]
}
