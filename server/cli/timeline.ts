/** Boots as text: one line for the whole, one for its timeline. Pure. */

import { printable } from '#server/printable.ts'
import type { BootRecord } from '#server/state/records.ts'
import { formatBytes } from '#shared/units.ts'
import { formatDuration, formatTime } from './table.ts'

/** `ipxe 0.00 s, kernel 1.20 s, agent 4.31 s`: seconds since the boot began. */
export function formatTimeline({ phases, startedAtMs }: BootRecord): string {
  const zeroMs = Math.min(startedAtMs, ...phases.map(({ atMs }) => atMs))
  return phases.map(({ phase, atMs }) => `${phase} ${secondsBetween(zeroMs, atMs)}`).join(', ')
}

/** Where the machine is, or how it ended and after how long. */
export function formatEnd({ end, endedAtMs, startedAtMs }: BootRecord): string {
  if (endedAtMs === undefined) return end
  return `${end} after ${formatDuration((endedAtMs - startedAtMs) / 1000)}`
}

export function formatBoot(boot: BootRecord): string {
  const what = [
    formatTime(boot.startedAtMs),
    boot.vdisk ?? 'no vDisk',
    formatEnd(boot),
    formatBytes(boot.wireBytes),
    ...formatReconnects(boot),
  ]
  const notices = boot.notices.map(({ level, message }) => `    ${level}: ${printable(message)}\n`)
  return `  ${what.join('  ')}\n    ${formatTimeline(boot)}\n${notices.join('')}`
}

function formatReconnects({ reconnects = 0 }: BootRecord): string[] {
  if (reconnects === 0) return []
  return [`reconnected ${reconnects === 1 ? 'once' : `${reconnects} times`}`]
}

function secondsBetween(fromMs: number, toMs: number): string {
  return `${((toMs - fromMs) / 1000).toFixed(2)} s`
}
