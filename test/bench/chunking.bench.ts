/**
 * npm run bench -- chunking: what an update and a boot cost on the wire by the way a vDisk is cut into
 * chunks, and with what is new sent as the difference to the version before. See README.md.
 *
 *   --full         differences for more ways of cutting
 *   --system NAME  only minimal or desktop
 *   --json         one JSON object on the last line
 */
import { parseArgs } from 'node:util'
import { KiB } from '#shared/units.ts'
import {
  BENCH_SYSTEMS,
  type BenchImages,
  type BenchSystem,
  ensureBenchImages,
  UPDATES,
  type Update,
} from './bench-images.ts'
import { CANDIDATES, type Candidate } from './chunking-candidates.ts'
import {
  type Chunk,
  type Chunked,
  cpuSecondsOf,
  newChunks,
  touchedChunks,
} from './chunking-chunks.ts'
import { BaseIndex, compress, type Delta, decodeAll, decompress } from './chunking-delta.ts'
import { type DiskImage, loadImage } from './chunking-image.ts'
import { type BootAccess, ensureBootRecord, untilUp } from './record-boot.ts'
import { type Goal, reportGoals, say } from './report.ts'

interface Row {
  readonly system: BenchSystem
  readonly name: string
  readonly isPeer: boolean
  readonly meanBytes: number
  readonly chunksPerGb: number
  /** Of an update, compressed, by how it was made. */
  readonly updateBytes: Readonly<Record<Update, number>>
  /** To the best of the peers; the worse of the two. */
  readonly updateVsBest: number
  /** Of the first boot, with nothing there before. */
  readonly loginBytes: number
  readonly loginChunks: number
  readonly loginVsPlainNbd: number
  /** Of the next version's first boot, where what version 1's boot read is there. */
  readonly nextLoginBytes: Readonly<Record<Update, number>>
  readonly cutMbPerSecond: number
  readonly deltas: DeltaCosts | undefined
}

interface DeltaCosts {
  /** CPU time per GB of version 2, to find bases and to compress with them. */
  readonly encodeSecondsPerGb: number
  /** CPU time per GB of new chunks to decode them, as differences where they are, and without. */
  readonly decodeSecondsPerGb: number
  readonly plainDecodeSecondsPerGb: number
  /** Share of the new bytes by the rule that found their base. */
  readonly sharesByRule: Readonly<Record<string, number>>
}

/** Versions of one system, in memory. */
interface Material {
  readonly images: BenchImages
  readonly before: DiskImage
  readonly after: Readonly<Record<Update, DiskImage>>
  readonly boots: Readonly<Record<'before' | Update, readonly BootAccess[]>>
}

/** The row whose figures are held against the goals of the format. */
const RECOMMENDED = 'even grid 36 KiB + delta, 3'

const NBD_REQUEST_BYTES = 28
const NBD_REPLY_BYTES = 16

/** Chunks before and behind a base that are part of its dictionary. */
const NEIGHBORS = [0, 1]

/** A chunk is sent as it is where compressing it does not pay. */
const sentBytes = (chunk: Chunk, encoded: Buffer) => Math.min(encoded.length, chunk.bytes.length)

const { values: options } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    system: { type: 'string' },
  },
})
const systems = BENCH_SYSTEMS.filter((it) => options.system === undefined || it === options.system)

const rows: Row[] = []
for (const system of systems) rows.push(...(await measureSystem(system)))
reportGoals('chunking', goalsOf(), rows)

async function measureSystem(system: BenchSystem): Promise<Row[]> {
  const material = await prepare(system)
  const plainMb = megabytes(plainNbdBytes(material.boots.before))
  say(`\n${system}: ${megabytes(material.before.dataBytes)} MB; plain NBD ${plainMb} MB to login`)
  const measured: Row[] = []
  for (const candidate of CANDIDATES) {
    say(`  ${candidate.name}`)
    measured.push(...(await measure(candidate, material)))
  }
  const best = (update: Update) =>
    Math.min(...measured.filter((it) => it.isPeer).map((it) => it.updateBytes[update]))
  const compared = measured.map((row) => {
    const ratios = UPDATES.map((update) => row.updateBytes[update] / best(update))
    return { ...row, updateVsBest: Math.max(...ratios) }
  })
  say(formatTable(compared))
  return compared
}

async function prepare(system: BenchSystem): Promise<Material> {
  const images = await ensureBenchImages(system)
  const boots = {
    before: untilUp(await ensureBootRecord(images.boots.before)),
    'in place': untilUp(await ensureBootRecord(images.boots['in place'])),
    rebuilt: untilUp(await ensureBootRecord(images.boots.rebuilt)),
  }
  const after = {
    'in place': loadImage(images.after['in place']),
    rebuilt: loadImage(images.after.rebuilt),
  }
  return { images, before: loadImage(images.before), after, boots }
}

/** One row without differences, and where they are tried one for each kind of dictionary. */
async function measure(candidate: Candidate, material: Material): Promise<Row[]> {
  const before = await candidate.cut(material.before)
  const after = {
    'in place': await candidate.cut(material.after['in place']),
    rebuilt: await candidate.cut(material.after.rebuilt),
  }
  const plain = plainRow(candidate, material, { before, after })
  const hasDeltas = candidate.deltas === 'always' || (options.full && candidate.deltas === 'full')
  const neighbors = hasDeltas ? NEIGHBORS : []
  return [plain, ...neighbors.map((count) => deltaRow(plain, material, { before, after }, count))]
}

interface CutMaterial {
  readonly before: Chunked
  readonly after: Readonly<Record<Update, Chunked>>
}

function plainRow(
  { name, isPeer, joinBytes }: Candidate,
  { images, before: image, boots }: Material,
  { before, after }: CutMaterial,
): Row {
  const { chunks, cpuSeconds } = before
  const sent = memoized((chunk) => sentBytes(chunk, compress(chunk.bytes)))
  const login = touchedChunks(chunks, boots.before)
  const loginBytes = sum(login, sent)
  return {
    system: images.system,
    name,
    isPeer,
    meanBytes: sum(chunks, lengthOf) / chunks.length,
    chunksPerGb: (chunks.length / image.dataBytes) * 1e9,
    updateBytes: byUpdate((update) => {
      const fresh = newChunks(after[update].chunks, chunks)
      return sum(joinBytes === undefined ? fresh : joined(fresh, joinBytes), sent)
    }),
    updateVsBest: Number.NaN,
    loginBytes,
    loginChunks: login.length,
    loginVsPlainNbd: loginBytes / plainNbdBytes(boots.before),
    nextLoginBytes: byUpdate((update) =>
      sum(newChunks(touchedChunks(after[update].chunks, boots[update]), login), sent),
    ),
    cutMbPerSecond: image.dataBytes / 1e6 / cpuSeconds,
    deltas: undefined,
  }
}

function deltaRow(
  plain: Row,
  { after: images, boots }: Material,
  { before, after }: CutMaterial,
  neighbors: number,
): Row {
  let encodeSeconds = 0
  const deltas = byUpdate((update) => {
    let encoded: Delta[] = []
    encodeSeconds += cpuSecondsOf(() => {
      const index = new BaseIndex(before.chunks, neighbors)
      encoded = index.encodeAll(newChunks(after[update].chunks, before.chunks))
    })
    return encoded
  })
  const imageBytes = UPDATES.reduce((bytes, update) => bytes + images[update].dataBytes, 0)
  // Only what the client has can be a base: of what a boot reads, what the boot before read.
  const login = touchedChunks(before.chunks, boots.before)
  const loginIndex = new BaseIndex(login, neighbors)
  return {
    ...plain,
    name: `${plain.name} + delta, ${neighbors * 2 + 1}`,
    updateBytes: byUpdate((update) => sum(deltas[update], deltaBytes)),
    nextLoginBytes: byUpdate((update) => {
      const touched = touchedChunks(after[update].chunks, boots[update])
      const nextLogin = loginIndex.encodeAll(newChunks(touched, login))
      decodeAll(nextLogin)
      return sum(nextLogin, deltaBytes)
    }),
    deltas: deltaCosts(Object.values(deltas).flat(), encodeSeconds / (imageBytes / 1e9)),
  }
}

function deltaBytes({ chunk, encoded }: Delta): number {
  return sentBytes(chunk, encoded)
}

function deltaCosts(deltas: readonly Delta[], encodeSecondsPerGb: number): DeltaCosts {
  const rawBytes = sum(deltas, ({ chunk }) => chunk.bytes.length)
  const plain = deltas.map(({ chunk }) => ({ encoded: compress(chunk.bytes), chunk }))
  const perGb = (work: () => void) => cpuSecondsOf(work) / (rawBytes / 1e9)
  const shares: Record<string, number> = {}
  for (const { rule = 'none', chunk } of deltas) {
    shares[rule] = (shares[rule] ?? 0) + chunk.bytes.length / rawBytes
  }
  return {
    encodeSecondsPerGb,
    decodeSecondsPerGb: perGb(() => decodeAll(deltas)),
    plainDecodeSecondsPerGb: perGb(() => {
      for (const { encoded, chunk } of plain) decompress(encoded, chunk.bytes.length)
    }),
    sharesByRule: shares,
  }
}

/** New chunks that lie behind one another, compressed together up to so many bytes. */
function joined(chunks: readonly Chunk[], maxBytes: number): Chunk[] {
  const groups: Chunk[][] = []
  for (const chunk of chunks) {
    const group = groups.at(-1)
    const last = group?.at(-1)
    const isBehind =
      last !== undefined && last.offsetBytes + last.bytes.length === chunk.offsetBytes
    if (group !== undefined && isBehind && sum(group, lengthOf) + chunk.bytes.length <= maxBytes) {
      group.push(chunk)
    } else groups.push([chunk])
  }
  return groups.flatMap((group) => {
    const [first] = group
    return first ? [{ ...first, bytes: Buffer.concat(group.map(({ bytes }) => bytes)) }] : []
  })
}

function byUpdate<T>(of: (update: Update) => T): Record<Update, T> {
  return { 'in place': of('in place'), rebuilt: of('rebuilt') }
}

/** By content and length: what is joined has the name of its first chunk. */
function memoized(of: (chunk: Chunk) => number): (chunk: Chunk) => number {
  const known = new Map<string, number>()
  return (chunk) => {
    const key = `${chunk.id} ${chunk.bytes.length}`
    const value = known.get(key) ?? of(chunk)
    known.set(key, value)
    return value
  }
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}

function lengthOf({ bytes }: Chunk): number {
  return bytes.length
}

/** What NBD without a cache sends: each read with its header, and each request. */
function plainNbdBytes(accesses: readonly BootAccess[]): number {
  const reads = accesses.filter(({ op }) => op === 'read')
  return sum(reads, ({ sizeBytes }) => NBD_REQUEST_BYTES + NBD_REPLY_BYTES + sizeBytes)
}

function goalsOf(): Goal[] {
  const worst = (of: (row: Row) => number) => {
    const values = rows.filter((row) => row.name === RECOMMENDED).map(of)
    return Math.round(Math.max(...values) * 1000) / 1000
  }
  return [
    { name: 'chunking.update_vs_best', value: worst((it) => it.updateVsBest), goal: '≤1.1' },
    { name: 'chunking.login_vs_nbd', value: worst((it) => it.loginVsPlainNbd), goal: '≤0.45' },
  ]
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1)
}

function formatTable(table: readonly Row[]): string {
  const heads =
    '| | mean KiB | chunks/GB | in place | rebuilt | × best | login MB | chunks | × NBD | next in place | next rebuilt | cut MB/s | encode s/GB | decode s/GB |'
  const line = '|---'.repeat(heads.split('|').length - 2)
  return ['', heads, `${line}|`, ...table.map(formatRow)].join('\n')
}

function formatRow(row: Row): string {
  const { deltas, updateBytes, nextLoginBytes } = row
  const decode = `${deltas?.decodeSecondsPerGb.toFixed(2)} (${deltas?.plainDecodeSecondsPerGb.toFixed(2)})`
  const cells = [
    row.name,
    (row.meanBytes / KiB).toFixed(1),
    row.chunksPerGb.toFixed(0),
    ...UPDATES.map((update) => megabytes(updateBytes[update])),
    row.updateVsBest.toFixed(2),
    megabytes(row.loginBytes),
    String(row.loginChunks),
    row.loginVsPlainNbd.toFixed(3),
    ...UPDATES.map((update) => megabytes(nextLoginBytes[update])),
    Number.isNaN(row.cutMbPerSecond) ? '' : row.cutMbPerSecond.toFixed(0),
    deltas?.encodeSecondsPerGb.toFixed(1) ?? '',
    deltas === undefined ? '' : decode,
  ]
  return `| ${cells.join(' | ')} |`
}
