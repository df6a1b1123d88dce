/** One boot of the demo's machine, from power-on to its login prompt, and the report about it. */
import type { BootView } from '#server/admin/admin-api.ts'
import type { BootRecord } from '#server/state/records.ts'
import { invariant } from '#shared/invariant.ts'
import { eventually } from '#test/support/eventually.ts'
import type { ServerProcess } from '#test/support/server-process.ts'
import { HOST_ADDRESS, VirtualMachine } from '#test/support/virtual-machine.ts'
import { type DemoReport, REPORTED_PHASES, type ReportedPhase } from './demo-report.ts'
import type { DemoStage } from './demo-stage.ts'

/** Always the same, so that the server knows the machine again. */
const MAC = '52:54:00:62:77:01'

/** A login prompt, or the prompt of a system that logs somebody in by itself. */
const READY =
  /(?:^|\n)(?:(?<hostname>[A-Za-z0-9.-]+) login: |[a-z]+@(?<host>[A-Za-z0-9.-]+):\S* ?[#$] )/

/** A desktop system in an emulated machine takes minutes. */
const LOGIN_TIMEOUT_MS = 10 * 60_000

/** The agent tells its memory now and then. */
const REPORT_TIMEOUT_MS = 30_000

export interface ReachedLogin {
  readonly hostname: string
  readonly atMs: number
}

/** Switches the machine on. It has no disk; its network card brings iPXE. */
export function startDemoMachine(stage: DemoStage, memoryMiB: number): VirtualMachine {
  const bootUrl = `http://${HOST_ADDRESS}:${stage.server.httpPort}/boot.ipxe`
  return VirtualMachine.start({
    name: 'demo',
    accelerator: stage.accelerator,
    memoryMiB,
    network: { mac: MAC, from: { bootUrl } },
  })
}

export async function reachLogin(machine: VirtualMachine): Promise<ReachedLogin> {
  const { groups, atMs } = await machine.console.expect(READY, { timeoutMs: LOGIN_TIMEOUT_MS })
  const hostname = groups['hostname'] ?? groups['host']
  invariant(hostname !== undefined, 'one of the two names matched')
  return { hostname, atMs }
}

/** Puts together what the server, the console and this process know of the boot. */
export async function reportBoot(
  stage: DemoStage,
  machine: VirtualMachine,
  login: ReachedLogin,
): Promise<DemoReport> {
  const record = await completeRecord(stage.server, machine.startedAtMs)
  invariant(record.vdisk === stage.vdisk, `booted ${record.vdisk}, expected ${stage.vdisk}`)
  const at = new Map<string, number>(record.phases.map(({ phase, atMs }) => [phase, atMs]))
  at.set('firmware', machine.startedAtMs).set('login', login.atMs)
  const phases = reportedPhases().map((name) => {
    const atMs = at.get(name)
    invariant(atMs !== undefined, `the record is complete: ${name}`)
    return { name, at_s: Math.round(atMs - machine.startedAtMs) / 1000 }
  })
  return {
    ok: true,
    login: true,
    hostname: login.hostname,
    phases: phases.toSorted((a, b) => a.at_s - b.at_s),
    wire_bytes: record.wireBytes,
    image_bytes: stage.imageBytes,
    agent_rss_bytes: record.lastStatus?.rssBytes ?? 0,
    initramfs_bytes: stage.initramfsBytes,
  }
}

/** Waits for the server's record of the boot that began after `startedMs`. */
async function completeRecord(server: ServerProcess, startedMs: number): Promise<BootRecord> {
  let record: BootRecord | undefined
  const isComplete = async () => {
    const boots = await server.json<BootView[]>('boots', '--limit', '5')
    record = boots.find(({ startedAtMs }) => startedAtMs >= startedMs)
    return record?.lastStatus !== undefined && missingPhases(record).length === 0
  }
  try {
    await eventually('the record of the boot is complete', isComplete, REPORT_TIMEOUT_MS)
  } catch (error) {
    const missing = record === undefined ? 'all of it' : missingPhases(record).join(', ')
    throw new Error(`The server's record of this boot lacks: ${missing || "the agent's status"}`, {
      cause: error,
    })
  }
  invariant(record !== undefined, 'a complete record is one')
  return record
}

function missingPhases(record: BootRecord): string[] {
  const stamped = new Set<string>(['firmware', 'login', ...record.phases.map((it) => it.phase)])
  return reportedPhases().filter((name) => !stamped.has(name))
}

function reportedPhases(): ReportedPhase[] {
  return Object.keys(REPORTED_PHASES) as ReportedPhase[]
}
