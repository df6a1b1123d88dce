import { readFileSync } from 'node:fs'

/** Seconds since the kernel started, in hundredths: a clock that nobody sets. */
export function uptimeSeconds(): number {
  return Number(readFileSync('/proc/uptime', 'utf8').split(' ', 1)[0])
}
