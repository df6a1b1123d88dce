/**
 * npm run bench -- boot: how long a boot takes, phase by phase, and what it costs. Three runs of the
 * demo in the least memory a client may have; medians. With --json the last line is one JSON object.
 */
import { MiB } from '#shared/units.ts'
import { reachLogin, reportBoot, startDemoMachine } from '#test/demo/demo-boot.ts'
import { type DemoReport, REPORTED_PHASES, type ReportedPhase } from '#test/demo/demo-report.ts'
import { DemoStage } from '#test/demo/demo-stage.ts'
import { type Goal, reportGoals, say } from './report.ts'

const RUNS = 3

/** What a client must get by with. */
const MEMORY_MIB = 512

interface Row {
  readonly name: string
  readonly unit: 's' | 'MiB'
  readonly median: number
  /** In the order of the runs. */
  readonly runs: readonly number[]
}

async function bootOnce(stage: DemoStage): Promise<DemoReport> {
  await using machine = startDemoMachine(stage, MEMORY_MIB)
  return await reportBoot(stage, machine, await reachLogin(machine))
}

function row(name: string, unit: Row['unit'], runs: readonly number[]): Row {
  const sorted = runs.toSorted((a, b) => a - b)
  return { name, unit, median: sorted[Math.floor(runs.length / 2)] ?? Number.NaN, runs }
}

function rowsOf(reports: readonly DemoReport[]): Row[] {
  const phase = (name: ReportedPhase) =>
    row(
      name,
      's',
      reports.map((report) => report.phases.find((it) => it.name === name)?.at_s ?? Number.NaN),
    )
  const size = (name: string, bytes: (report: DemoReport) => number) =>
    row(
      name,
      'MiB',
      reports.map((report) => Math.round((bytes(report) / MiB) * 10) / 10),
    )
  return [
    ...(Object.keys(REPORTED_PHASES) as ReportedPhase[]).map(phase),
    size('streamed', (report) => report.wire_bytes),
    size('initramfs', (report) => report.initramfs_bytes),
    size('agent rss', (report) => report.agent_rss_bytes),
  ]
}

function goalsOf(rows: readonly Row[]): Goal[] {
  const median = (name: string) => rows.find((it) => it.name === name)?.median ?? Number.NaN
  return [
    { name: 'boot.agent_rss_mib', value: median('agent rss'), goal: '≤150' },
    { name: 'boot.initramfs_mib', value: median('initramfs'), goal: '≤56' },
  ]
}

function formatRow({ name, unit, median, runs }: Row): string {
  const numbers = [median, ...runs].map((value) => value.toFixed(2).padStart(9)).join('')
  return `${name.padEnd(14)}${unit.padStart(4)}${numbers}`
}

const reports: DemoReport[] = []
{
  await using stage = await DemoStage.prepare(undefined, say)
  for (let run = 1; run <= RUNS; run += 1) {
    say(`boot ${run} of ${RUNS}`)
    reports.push(await bootOnce(stage))
  }
}
const rows = rowsOf(reports)
const heads = ['median', ...reports.map((_, index) => `run ${index + 1}`)]
say(`\n${''.padEnd(18)}${heads.map((head) => head.padStart(9)).join('')}`)
for (const it of rows) say(formatRow(it))
reportGoals('boot', goalsOf(rows), rows)
