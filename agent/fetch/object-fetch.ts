/**
 * One object that is wanted here, a chunk or a node, and how far it is.
 *
 *   queued --(may be asked for)--> asked --(came, and is what it should be)--> done
 *   local (is being read from the local disk)       awaited (is being pushed)
 *   held (came, waits for room in the RAM tier)     paused (was wrong; is asked for again later)
 */
import type { ObjectName, Priority } from '#shared/wire/frame.ts'
import type { ChunkPlace } from './version-tree.ts'

export type FetchState = 'queued' | 'asked' | 'awaited' | 'local' | 'held' | 'paused'

/** Somebody who waits for blocks. */
export interface BlockWaiter {
  /**
   * Blocks of the range that are in the RAM tier now, where they may be gone after the call. Each
   * block of the range is told once.
   */
  onBlocks(firstBlock: number, blocks: number): void
  /** The rest never comes. */
  onClosed(error: Error): void
}

/** A part of a range that somebody waits for. */
export interface Wait {
  readonly begin: number
  readonly end: number
  readonly waiter: BlockWaiter
  /** When it was wanted, on the clock of first reads. */
  readonly wantedAtMs: number
}

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
  /** How often it was found waiting for its answer. */
  sweeps: number
  /** Who waits for a chunk. Those who wait for nodes wait for their leaf. */
  readonly waits: Wait[]
  /** Told whether a chunk that was only wanted for the local disk came. */
  readonly keepers: ((isHere: boolean) => void)[]
  /** Whether it is wanted in the RAM tier although nobody waits, and how it is published then. */
  arrival?: 'readahead' | 'guarded'
  /** Bytes that are being read from the local disk ahead of the kernel. */
  localAheadBytes: number
  /** How often it came wrong. */
  failures: number
  /** Runs out when it is paused, or when patience ends with what should have brought it. */
  timer?: NodeJS.Timeout
}

export function createFetch(name: ObjectName, want: Priority, place?: ChunkPlace): ObjectFetch {
  return {
    level: name.level,
    position: name.position,
    ...(place && { place }),
    state: 'queued',
    want,
    askedAtMs: 0,
    sweeps: 0,
    waits: [],
    keepers: [],
    localAheadBytes: 0,
    failures: 0,
  }
}

/** Tells a waiter of the blocks that are his. */
export function tell(wait: Wait, firstBlock: number, blocks: number): void {
  const begin = Math.max(wait.begin, firstBlock)
  const end = Math.min(wait.end, firstBlock + blocks)
  if (end > begin) wait.waiter.onBlocks(begin, end - begin)
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
