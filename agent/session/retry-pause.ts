/** Pauses before the next try. The first is short: most losses are of a moment. */
const PAUSES_MS = [250, 500, 1_000, 2_000, 4_000]
const PAUSE_MAX_MS = 5_000

/** Part of each pause that is left to chance, so that clients who lost a server together spread. */
const JITTER = 0.5

/** How long to wait after so many failures in a row. `chance` is from 0 to below 1. */
export function retryPauseMs(failures: number, chance: number = Math.random()): number {
  return (PAUSES_MS[failures] ?? PAUSE_MAX_MS) * (1 - JITTER * chance)
}
