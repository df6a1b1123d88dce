/** What a demo found out about a boot: as a table for people and as JSON for programs. Pure. */
import type { BootPhase } from '#shared/boot/boot-phase.ts'
import { formatBytes } from '#shared/units.ts'

/** Field names as programs read them; seconds are since power-on. */
export interface DemoReport {
  readonly ok: true
  readonly login: true
  readonly hostname: string
  readonly phases: readonly { readonly name: ReportedPhase; readonly at_s: number }[]
  /** Sent to the client over the stream, until the login prompt. */
  readonly wire_bytes: number
  readonly image_bytes: number
  readonly agent_rss_bytes: number
  readonly initramfs_bytes: number
}

export interface DemoFailure {
  readonly ok: false
  readonly error: string
}

/** The phases of a report, and what each means. */
export const REPORTED_PHASES = {
  firmware: 'power-on',
  ipxe: 'iPXE has asked the server what to boot',
  kernel: 'kernel and initramfs are loaded',
  agent: 'first line of the agent',
  identified: 'the server has said who this machine is',
  attached: '/dev/nbd0 is there',
  'first-block': 'first block of the vDisk has arrived',
  'root-mounted': 'root file system is mounted',
  login: 'login prompt',
} as const satisfies Partial<Record<BootPhase, string>>

export type ReportedPhase = keyof typeof REPORTED_PHASES

export function formatReport(report: DemoReport): string {
  const lines = report.phases.map(({ name, at_s }, index) => {
    const tookSeconds = at_s - (report.phases[index - 1]?.at_s ?? 0)
    const took = index === 0 ? '' : `+${tookSeconds.toFixed(2)}`
    return `  ${name.padEnd(14)}${at_s.toFixed(2).padStart(8)}${took.padStart(9)}  ${REPORTED_PHASES[name]}`
  })
  return `
${report.hostname} is up. Its boot, in seconds since power-on and since the line before:
${lines.join('\n')}

  streamed          ${formatBytes(report.wire_bytes)} of a vDisk of ${formatBytes(report.image_bytes)}
  initramfs         ${formatBytes(report.initramfs_bytes)}
  agent's memory    ${formatBytes(report.agent_rss_bytes)}
`
}
