/**
 * One object that is wanted here, a chunk or a node, and how far it is. What takes it out of a state is
 * one thing each, and always comes:
 *
 *   queued    it is asked for: it is its turn, the path has room, and there is a server
 *   asked     the answer; the loss of the connection; a sweep, should the server be none of ours
 *   awaited   the push, or the word that it is not coming; else as if it were asked for
 *   local     the disk's answer, that it has not got it at the latest
 *   held      room in the RAM tier: readers are done some time
 *   paused    its timer
 *
 * Where somebody waits, patience ends `awaited`, `asked` and `local` sooner: then it is asked for.
 */
import type { ObjectName, Priority } from '#shared/wire/frame.ts'
import type { BlockWait } from './block-wait.ts'
import type { ChunkPlace } from './version-tree.ts'

export type FetchState = 'queued' | 'asked' | 'awaited' | 'local' | 'held' | 'paused'

export interface ObjectFetch extends ObjectName {
  /** As asked for; what a chunk is called once its leaf is here. */
  position: number
  /** Absent for nodes, and for a chunk that was asked for by one of its blocks, without its leaf. */
  place?: ChunkPlace
  state: FetchState
  /** The most urgent of those who want it. */
  want: Priority
  /** What it was asked for as, and when. */
  askedAs?: Priority
  askedAtMs: number
  /** How often it was found waiting for what should bring it. */
  sweeps: number
  /** Who waits for a chunk. Those who wait for nodes wait for their leaf. */
  readonly waits: BlockWait[]
  /** Told whether a chunk that was only wanted for the local disk came. */
  readonly keepers: ((isHere: boolean) => void)[]
  /** Whether it is wanted in the RAM tier although nobody waits, and how it is published then. */
  arrival?: 'readahead' | 'guarded'
  /** Bytes it brings ahead of the kernel when it comes from the local disk. */
  readonly localAheadBytes: number
  /** How often it came wrong. */
  failures: number
  /** Runs out when it is paused, or when patience ends with what should have brought it. */
  timer?: NodeJS.Timeout
}

export interface NewFetch {
  readonly place?: ChunkPlace | undefined
  readonly arrival?: 'readahead' | 'guarded'
  readonly localAheadBytes?: number
}

export function createFetch(
  { level, position }: ObjectName,
  want: Priority,
  { place, arrival, localAheadBytes = 0 }: NewFetch = {},
): ObjectFetch {
  return {
    level,
    position,
    ...(place && { place }),
    ...(arrival && { arrival }),
    state: 'queued',
    want,
    askedAtMs: 0,
    sweeps: 0,
    waits: [],
    keepers: [],
    localAheadBytes,
    failures: 0,
  }
}

/** Objects by name; chunks are level 0. */
export function objectKey(level: number, position: number): number {
  return level * 2 ** 32 + position
}

/** An object that came wrong may be right at once; a disk that lost it is not mended in a second. */
const PAUSE_MS_AT_FIRST = 100
export const PAUSE_MS_MAX = 10_000

/** How long to wait before an object is asked for again that came wrong so often. */
export function pauseMs(failures: number): number {
  return failures <= 1 ? 0 : Math.min(PAUSE_MS_MAX, PAUSE_MS_AT_FIRST * 2 ** (failures - 2))
}
