import { readFileSync } from 'node:fs'
import { invariant } from '#shared/invariant.ts'
import { KiB } from '#shared/units.ts'

/** Bytes that could be given out without swapping (MemAvailable of proc_meminfo(5)). */
export function availableMemoryBytes(): number {
  const [, kilobytes] =
    /^MemAvailable: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? []
  invariant(kilobytes !== undefined, '/proc/meminfo has MemAvailable')
  return Number(kilobytes) * KiB
}
