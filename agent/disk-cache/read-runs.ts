/** Puts objects that lie near each other into one read. Pure. */

import { KiB, MiB } from '#shared/units.ts'
import { UNIT_BYTES } from './cache-layout.ts'
import type { Place } from './object-table.ts'

/** Larger reads are hardly faster, and hold a demand read up longer. */
export const RUN_BYTES_MAX: number = MiB

/** Reading what nobody wants costs less than another read; 100 µs of a cheap SSD. */
const GAP_BYTES_MAX: number = 32 * KiB

export interface Wanted extends Place {
  /** Which of the wanted objects it is. */
  readonly index: number
}

export interface ReadRun {
  /** In bytes from the beginning of the data. */
  readonly offset: number
  readonly length: number
  readonly objects: readonly Wanted[]
}

export function planRuns(wanted: readonly Wanted[]): ReadRun[] {
  const runs: ReadRun[] = []
  let objects: Wanted[] = []
  let [first, end] = [0, 0]
  const finish = () => {
    if (objects.length > 0) runs.push({ offset: first, length: end - first, objects })
  }
  for (const object of wanted.toSorted((a, b) => a.location - b.location)) {
    const offset = object.location * UNIT_BYTES
    const objectEnd = offset + object.units * UNIT_BYTES
    if (objects.length > 0 && offset - end <= GAP_BYTES_MAX && objectEnd - first <= RUN_BYTES_MAX) {
      objects.push(object)
      end = Math.max(end, objectEnd)
      continue
    }
    finish()
    objects = [object]
    first = offset
    end = objectEnd
  }
  finish()
  return runs
}
