/**
 * npm run bench -- import: how long an image takes to become a vDisk, and how large that is, against
 * qemu-img and casync. See README.md.
 *
 *   --rounds N     default 5
 *   --system NAME  only minimal or desktop
 *   --json         one JSON object on the last line
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { invariant } from '#shared/invariant.ts'
import { CACHE_FOLDER } from '#test/support/build-cache.ts'
import { runProgram, runScript } from '#test/support/child-run.ts'
import { BENCH_SYSTEMS, type BenchSystem, ensureBenchImages } from './bench-images.ts'
import { BenchServer } from './bench-server.ts'
import { benchProgram } from './child.ts'
import type { ImportCost } from './import-process.ts'
import { GBIT, Link } from './link.ts'
import { type Goal, median, reportGoals, say } from './report.ts'

const TOOLS = ['bootwire', 'qemu-img', 'casync'] as const
type Tool = (typeof TOOLS)[number]

interface Row {
  readonly system: BenchSystem
  readonly tool: Tool
  readonly seconds: readonly [median: number, least: number, most: number]
  /** Of the data in the image. */
  readonly mbPerSecond: number
  readonly storedBytes: number
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
    system: { type: 'string' },
  },
})
const rounds = Number(options.rounds)

const rows: Row[] = []
const systems = BENCH_SYSTEMS.filter((it) => options.system === undefined || it === options.system)
for (const system of systems) await measure(system)
reportGoals('import', goalsOf(), rows)

async function measure(system: BenchSystem): Promise<void> {
  const { before: image } = await ensureBenchImages(system)
  const seconds: Record<Tool, number[]> = { bootwire: [], 'qemu-img': [], casync: [] }
  const storedBytes: Record<Tool, number> = { bootwire: 0, 'qemu-img': 0, casync: 0 }
  // From memory: no disk shall be measured.
  await runScript('cat "$1" >/dev/null', [image])
  for (let round = 0; round < rounds; round += 1) {
    for (const [turn] of TOOLS.entries()) {
      const tool = TOOLS[(turn + round) % TOOLS.length] ?? 'bootwire'
      await using folder = await createFolder()
      seconds[tool].push(await runTool(tool, image, folder.path))
      storedBytes[tool] = await sizeOf(join(folder.path, 'store'))
    }
  }
  const dataBytes = Number(await runScript(`du --block-size=1 "$1" | cut -f1`, [image]))
  say(`\n${system}\n| | s | MB/s | stored MB |\n|---|---|---|---|`)
  for (const tool of TOOLS) {
    const own = seconds[tool]
    const row: Row = {
      system,
      tool,
      seconds: [median(own), Math.min(...own), Math.max(...own)],
      mbPerSecond: dataBytes / 1e6 / median(own),
      storedBytes: storedBytes[tool],
    }
    rows.push(row)
    say(formatRow(row))
  }
  await importWhole(image)
}

/** Returns seconds. What is stored lies in `store` afterwards. */
async function runTool(tool: Tool, image: string, folder: string): Promise<number> {
  const store = join(folder, 'store')
  if (tool === 'bootwire') {
    const [program = '', ...args] = benchProgram('import-process.ts', [image, folder])
    const { seconds } = JSON.parse(await runProgram(program, args)) as ImportCost
    return seconds
  }
  await mkdir(store)
  const beginMs = performance.now()
  if (tool === 'qemu-img') {
    const settings = ['-c', '-W', '-m', '2', '-O', 'qcow2', '-o', 'compression_type=zstd']
    await runProgram('qemu-img', ['convert', ...settings, image, join(store, 'image.qcow2')])
  } else {
    const settings = ['--compression=zstd', `--store=${join(store, 'default.castr')}`]
    await runProgram('casync', [...settings, 'make', join(store, 'index.caibx'), image])
  }
  return (performance.now() - beginMs) / 1000
}

/** What a person sees, all that is looked up and taken out included; and every byte of it again. */
async function importWhole(image: string): Promise<void> {
  await using folder = await createFolder()
  await using link = await Link.create({ roundTripMs: 0.2, bitsPerSecond: GBIT })
  const stateFolder = join(folder.path, 'state')
  await using server = await BenchServer.start({ link, stateFolder, vdisk: 'whole' })
  const beginMs = performance.now()
  await server.run('vdisk', 'import', image, '--name', 'whole')
  const seconds = (performance.now() - beginMs) / 1000
  const copy = join(folder.path, 'copy.img')
  await server.run('vdisk', 'export', 'whole', copy)
  await runProgram('cmp', [image, copy])
  say(`bootwire vdisk import: ${seconds.toFixed(2)} s; its export is the image again, every byte`)
}

/** On the disk: what is stored is made durable. */
async function createFolder(): Promise<{ path: string } & AsyncDisposable> {
  const parent = join(CACHE_FOLDER, 'bench')
  await mkdir(parent, { recursive: true })
  const path = await mkdtemp(join(parent, 'import-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

async function sizeOf(path: string): Promise<number> {
  const bytes = Number(await runScript('du --bytes --summarize "$1" | cut -f1', [path]))
  invariant(bytes > 1e6, 'something is stored')
  return bytes
}

function goalsOf(): Goal[] {
  const find = (system: BenchSystem, tool: Tool) =>
    rows.find((row) => row.system === system && row.tool === tool)
  const rate = (system: BenchSystem, tool: Tool) =>
    (find(system, 'bootwire')?.mbPerSecond ?? Number.NaN) /
    (find(system, tool)?.mbPerSecond ?? Number.NaN)
  const size = (system: BenchSystem) =>
    (find(system, 'bootwire')?.storedBytes ?? Number.NaN) /
    (find(system, 'qemu-img')?.storedBytes ?? Number.NaN)
  const rounded = (value: number) => Math.round(value * 100) / 100
  const least = (tool: Tool) => rounded(Math.min(...systems.map((it) => rate(it, tool))))
  return [
    { name: 'import.rate_vs_qemu_img', value: least('qemu-img'), goal: '≥1' },
    { name: 'import.rate_vs_casync', value: least('casync'), goal: '≥1' },
    { name: 'import.size_vs_qcow2', value: rounded(Math.max(...systems.map(size))), goal: '≤1.1' },
  ]
}

function formatRow({ tool, seconds, mbPerSecond, storedBytes }: Row): string {
  const [middle, least, most] = seconds.map((it) => it.toFixed(2))
  const cells = [
    tool,
    `${middle} [${least}–${most}]`,
    mbPerSecond.toFixed(0),
    (storedBytes / 1e6).toFixed(1),
  ]
  return `| ${cells.join(' | ')} |`
}
