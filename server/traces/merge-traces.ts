/**
 * Makes one list of the boots of a version: what the next boot is expected to read, in order. A chunk
 * is in when at least half of the boots of some model read it. Its place is the median of where it
 * stood in the boots that read it, each counted from 0 to 1, since one boot reads more than another and
 * one machine is faster. Pure.
 */
import { BOOT_LIST_ENTRIES_MAX } from '#shared/wire/limits.ts'
import type { BootTrace, TraceOrigin } from './boot-trace.ts'

/** What most of the list comes from: real boots, those of the version before, or a look at the files. */
export type ListSource = TraceOrigin

export interface MergedChunk {
  /** First block. */
  readonly position: number
  /** Median of when it was first read. */
  readonly atMs: number
}

export interface MergedList {
  readonly source: ListSource
  readonly chunks: readonly MergedChunk[]
}

interface Sighting {
  readonly places: number[]
  readonly times: number[]
  isExpected: boolean
}

/** Returns undefined when there is nothing to go by. */
export function mergeTraces(traces: readonly BootTrace[]): MergedList | undefined {
  const counting = countingTraces(traces)
  const sources: readonly ListSource[] = ['recorded', 'carried', 'guessed']
  const source = sources.find((origin) => counting.some((trace) => trace.origin === origin))
  if (source === undefined) return undefined
  const sightings = new Map<number, Sighting>()
  for (const boots of byModel(counting).values()) addModel(sightings, boots)
  const chunks = [...sightings]
    .filter(([, { isExpected }]) => isExpected)
    .map(([position, { places, times }]) => {
      return { position, place: median(places), atMs: Math.round(median(times)) }
    })
    .sort((a, b) => a.place - b.place || a.atMs - b.atMs || a.position - b.position)
    .slice(0, BOOT_LIST_ENTRIES_MAX)
  return { source, chunks: chunks.map(({ position, atMs }) => ({ position, atMs })) }
}

/**
 * Of each model its own boots of this version, else those that were carried over; a guess only where
 * there is nothing else.
 */
export function countingTraces(traces: readonly BootTrace[]): BootTrace[] {
  const counting = [
    ...byModel(traces.filter(({ origin }) => origin !== 'guessed')).values(),
  ].flatMap((boots) => {
    const recorded = boots.filter(({ origin }) => origin === 'recorded')
    return recorded.length > 0 ? recorded : boots
  })
  return counting.length > 0 ? counting : [...traces]
}

export function byModel(traces: readonly BootTrace[]): Map<string, BootTrace[]> {
  return Map.groupBy(traces, ({ model }) => model)
}

function addModel(sightings: Map<number, Sighting>, boots: readonly BootTrace[]): void {
  const counts = new Map<number, number>()
  for (const { entries } of boots) {
    for (const [index, { position, atMs }] of entries.entries()) {
      const sighting = sightings.get(position) ?? { places: [], times: [], isExpected: false }
      sightings.set(position, sighting)
      sighting.places.push(index / entries.length)
      sighting.times.push(atMs)
      counts.set(position, (counts.get(position) ?? 0) + 1)
    }
  }
  for (const [position, count] of counts) {
    const sighting = sightings.get(position)
    if (sighting !== undefined && count * 2 >= boots.length) sighting.isExpected = true
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? 0
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2
}
