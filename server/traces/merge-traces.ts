/**
 * Makes one list of the boots of a version: what the next boot is expected to read, in order. A chunk
 * is in when at least half of the boots of some model read it. Its place is the median of where it
 * stood in the boots that read it, each counted from 0 to 1, since one boot reads more than another and
 * one machine is faster. Pure.
 */
import { setImmediate as othersTurn } from 'node:timers/promises'
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

interface PlacedChunk extends MergedChunk {
  /** From 0 to 1. */
  readonly place: number
}

interface Sighting {
  readonly places: number[]
  readonly times: number[]
  isExpected: boolean
}

/** Chunks looked at before others have their turn: some milliseconds. */
const STEP_CHUNKS = 16_384

/**
 * Returns undefined when there is nothing to go by. With as many models, boots and chunks as are kept it
 * takes a second, in steps: sessions are served meanwhile.
 */
export async function mergeTraces(traces: readonly BootTrace[]): Promise<MergedList | undefined> {
  const counting = countingTraces(traces)
  const sources: readonly ListSource[] = ['recorded', 'carried', 'guessed']
  const source = sources.find((origin) => counting.some((trace) => trace.origin === origin))
  if (source === undefined) return undefined
  const sightings = new Map<number, Sighting>()
  for (const boots of byModel(counting).values()) await addModel(sightings, boots)
  const placed: PlacedChunk[] = []
  let step = 0
  for (const [position, { places, times, isExpected }] of sightings) {
    if ((step += 1) % STEP_CHUNKS === 0) await othersTurn()
    if (!isExpected) continue
    placed.push({ position, place: median(places), atMs: Math.round(median(times)) })
  }
  const chunks = placed
    .sort((a, b) => a.place - b.place || a.atMs - b.atMs || a.position - b.position)
    .slice(0, BOOT_LIST_ENTRIES_MAX)
  return { source, chunks: chunks.map(({ position, atMs }) => ({ position, atMs })) }
}

/**
 * Of each model its own boots of this version, else those that were carried over; a guess only where
 * there is nothing else. The list is pushed to everybody: once there are boots of clients that an
 * administrator has confirmed, those of others, who may be inventions of one machine, count no more.
 */
export function countingTraces(traces: readonly BootTrace[]): BootTrace[] {
  const real = traces.filter(({ origin }) => origin !== 'guessed')
  const confirmed = real.filter(({ isConfirmed }) => isConfirmed)
  const counting = [...byModel(confirmed.length > 0 ? confirmed : real).values()].flatMap(
    (boots) => {
      const recorded = boots.filter(({ origin }) => origin === 'recorded')
      return recorded.length > 0 ? recorded : boots
    },
  )
  return counting.length > 0 ? counting : [...traces]
}

export function byModel(traces: readonly BootTrace[]): Map<string, BootTrace[]> {
  return Map.groupBy(traces, ({ model }) => model)
}

async function addModel(
  sightings: Map<number, Sighting>,
  boots: readonly BootTrace[],
): Promise<void> {
  const counts = new Map<number, number>()
  for (const { entries } of boots) {
    await othersTurn()
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
