/** What is told of a client's stream: how much is local, how well its boot was foreseen. Pure. */
import type { ClientDetails } from '#server/admin/admin-api.ts'
import { formatBytes } from '#shared/units.ts'
import type { Hydration, Status } from '#shared/wire/messages.ts'

type Pair = readonly [string, string | undefined]

const PLACES = { ram: 'in memory', disk: 'on the local disk', server: 'on the server' } as const

const DISK_CACHE_STATES = { none: 'none', ready: 'ready', failed: 'failed' } as const

/** Pairs for `client show`: what was set, and what the last boot reported. */
export function streamPairs({ hydration, boots }: ClientDetails): Pair[] {
  const [boot] = boots
  const status = boot?.lastStatus
  const set: Pair = ['hydration', formatHydration(hydration)]
  if (status === undefined) return [set]
  const { prefetch, objectsCorrupt } = status
  return [
    set,
    ['local', formatLocal(status.hydration)],
    ['disk cache', formatDiskCache(status.diskCache)],
    ['written', formatWritten(status)],
    [
      'prefetched',
      `${prefetch.hits} reads found it here, ${prefetch.late} on its way, ${prefetch.misses} not asked for; ${formatBytes(prefetch.pushedBytes)} pushed, ${formatBytes(prefetch.unusedBytes)} of it not read`,
    ],
    ['corrupt', objectsCorrupt === 0 ? undefined : `${objectsCorrupt} objects, asked for again`],
  ]
}

/** `120.0 MiB of 8.30 GiB, in memory, on the local disk; 3 writes wait for room` */
function formatWritten({
  writeCacheBytes,
  writeCacheLimitBytes,
  writeCachePlaces,
  writesWaiting,
}: Omit<Status, 'kind'>): string {
  const places = writeCachePlaces.map((place) => PLACES[place]).join(', ')
  const waiting = writesWaiting === 0 ? '' : `; ${writesWaiting} writes wait for room`
  return `${formatBytes(writeCacheBytes)} of ${formatBytes(writeCacheLimitBytes)}, ${places}${waiting}`
}

/** `runs, at most 5.0 MiB/s` */
export function formatHydration({ mode, rateBytesPerSecond }: Hydration): string {
  const state = { off: 'off', run: 'runs', pause: 'paused' }[mode]
  const rate = rateBytesPerSecond === 0 ? '' : `, at most ${formatBytes(rateBytesPerSecond)}/s`
  return mode === 'off' ? state : `${state}${rate}`
}

/** `45 % of the version (1.20 GiB of 2.60 GiB), hydration runs` */
export function formatLocal({ mode, localBytes, versionBytes }: Status['hydration']): string {
  const state = {
    off: 'not hydrating',
    run: 'hydrating',
    pause: 'hydration paused',
    complete: 'complete: runs without the server',
  }[mode]
  if (versionBytes === 0) return state
  // Not 100 % before it is all there.
  const percent =
    mode === 'complete' ? 100 : Math.min(99, Math.floor((localBytes / versionBytes) * 100))
  return `${percent} % of the version (${formatBytes(localBytes)} of ${formatBytes(versionBytes)}), ${state}`
}

function formatDiskCache({
  state,
  usedBytes,
  capacityBytes,
  writeBudgetLeftBytes,
  problem,
}: Status['diskCache']): string {
  const what = DISK_CACHE_STATES[state]
  const why = problem === '' ? '' : `: ${problem}`
  if (state !== 'ready') return `${what}${why}`
  const amounts = `${formatBytes(usedBytes)} of ${formatBytes(capacityBytes)} used, ${formatBytes(writeBudgetLeftBytes)} may be written today`
  return `${what}, ${amounts}${why}`
}
