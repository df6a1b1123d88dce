/**
 * How a recorded boot is replayed. A read was asked for some time after others had been answered: it
 * waited for those, and the time was thought. So in a replay it is asked for when the same reads are
 * answered and as much time has passed, and no more reads are under way than there were in the record.
 * Writes are left out: they stay on the client in every arrangement that is compared.
 */
import type { BootAccess } from './record-boot.ts'

export interface PlannedRead {
  readonly offsetBytes: number
  readonly sizeBytes: number
  /** Its place in the order in which the reads were answered. */
  readonly doneRank: number
  /** It waits until the first so many of that order are answered … */
  readonly afterDone: number
  /** … and for this time. */
  readonly thinkMs: number
}

/** In the order in which they were asked for. */
export type ReplayPlan = readonly PlannedRead[]

/**
 * `thinkDivisor`: how much faster the machine thinks than the one that was recorded; infinite for one
 * that does not think.
 */
export function planReplay(accesses: readonly BootAccess[], thinkDivisor: number): ReplayPlan {
  const reads = accesses.filter(({ op }) => op === 'read')
  const ranked = [...reads].sort((a, b) => a.doneMs - b.doneMs)
  const ranks = new Map(ranked.map((read, rank) => [read, rank]))
  const plan: PlannedRead[] = []
  let afterDone = 0
  for (const read of [...reads].sort((a, b) => a.atMs - b.atMs)) {
    while ((ranked[afterDone]?.doneMs ?? Number.POSITIVE_INFINITY) <= read.atMs) afterDone += 1
    const sinceMs = ranked[afterDone - 1]?.doneMs ?? 0
    plan.push({
      offsetBytes: read.offsetBytes,
      sizeBytes: read.sizeBytes,
      doneRank: ranks.get(read) ?? Number.NaN,
      afterDone,
      thinkMs: (read.atMs - sinceMs) / thinkDivisor,
    })
  }
  return plan
}

export function plannedBytes(plan: ReplayPlan): number {
  return plan.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
}
