/** Pauses before the next tries. The first is short: most losses are of a moment. */
const PAUSES_MS = [250, 500]
/** While a root may wait: a try costs a packet, and a server that is back is found within a second. */
const PAUSE_MS = 750
/** Some two minutes; after that nobody sits there and counts seconds. */
const FAILURES_MANY = 200
const PAUSE_LONG_MS = 5_000

/** Part of each pause that is left to chance, so that clients who lost a server together spread. */
const JITTER = 0.5

/** How long to wait after so many failures in a row. `chance` is from 0 to below 1. */
export function retryPauseMs(failures: number, chance: number = Math.random()): number {
  const pauseMs = PAUSES_MS[failures] ?? (failures < FAILURES_MANY ? PAUSE_MS : PAUSE_LONG_MS)
  return pauseMs * (1 - JITTER * chance)
}
