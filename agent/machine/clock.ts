/** This machine's clock, which may be years off before a system runs on it. */
import { spawnSync } from 'node:child_process'

/** Less may be the way of the message, and the system's own time service mends it without a step. */
const OFF_MS_MIN = 60_000

/**
 * Sets the clock by the server's when it is off by more than a minute. Before a root runs only: a step of
 * hours under a running system harms more than it mends. Returns by how much it was off, in milliseconds;
 * undefined when it was left alone.
 */
export function setClock(
  serverTimeMs: number,
  {
    nowMs = Date.now(),
    set = setByDate,
  }: { nowMs?: number; set?: (seconds: number) => boolean } = {},
): number | undefined {
  const offMs = nowMs - serverTimeMs
  if (Math.abs(offMs) < OFF_MS_MIN) return undefined
  return set(Math.round(serverTimeMs / 1000)) ? offMs : undefined
}

/** Node cannot; busybox does. */
function setByDate(seconds: number): boolean {
  return spawnSync('date', ['-u', '-s', `@${seconds}`], { stdio: 'ignore' }).status === 0
}
