/**
 * Follows the boot list: what a boot is expected to need is brought into the RAM tier in that order,
 * pushed by the server or read from the local disk, as fast as the path's window allows and no
 * farther ahead of the kernel than the RAM tier can hold.
 *
 * An entry waits, is granted (the server may push it), or is *done*: it came, or need not come. When the
 * boot is over nothing more is granted, and what is still comes.
 */
import { bytesOfBlocks } from '#shared/manifest/tree-shape.ts'
import { KiB, MiB } from '#shared/units.ts'
import {
  type BootListEntry,
  CHUNK_LEVEL,
  type ObjectHeader,
  type ObjectName,
  PRIORITY,
  type PushRange,
} from '#shared/wire/frame.ts'
import { PUSH_RANGES_MAX } from '#shared/wire/limits.ts'
import { EntryWays, type EntryWaysParts } from './entry-ways.ts'
import type { LeafPaths } from './leaf-paths.ts'
import { createFetch, objectKey } from './object-fetch.ts'
import type { PathLoad } from './path-load.ts'
import type { ChunkPlace } from './version-tree.ts'

export interface BootPrefetchParts extends EntryWaysParts {
  readonly leafPaths: LeafPaths
  readonly load: PathLoad
  readonly push: (ranges: readonly PushRange[]) => void
}

/** Of the RAM tier; the rest is for what is read on demand. */
const LEAD_SHARE = 0.75
/**
 * Grants cost both ends a frame and what it causes to be written, some 50 µs: a part of the window at a
 * time, five chunks or more.
 */
const GRANT_SHARE = 1 / 4
const GRANT_BYTES_MIN: number = 64 * KiB
/** Of the window: what may come before a chunk that somebody waits for, lest each is asked for by itself. */
const HASTE_SHARE = 1 / 2
/** Read from the local disk at a time: a demand read waits no longer than it takes to prove these. */
const LOCAL_BYTES_MAX: number = MiB

export class BootPrefetch {
  readonly #parts: BootPrefetchParts
  readonly #ways: EntryWays
  #entries: readonly BootListEntry[] = []
  #isDone = new Uint8Array(0)
  readonly #indexes = new Map<number, number>()
  /** What is done stays so when the list comes again on another connection. */
  readonly #doneKeys = new Set<number>()
  #rangesGranted: PushRange[] = []
  /** Granted, and to be told with the next frame. */
  #hastened: PushRange[] = []
  #next = 0
  #nextNode = 0
  #isWarm = false
  /** The server has told its list on the connection there is; before that it cannot push. */
  #mayGrant = false
  #isOver = false

  constructor(parts: BootPrefetchParts) {
    this.#parts = parts
    this.#ways = new EntryWays(parts)
  }

  /** Whether there is more to bring. */
  get isActive(): boolean {
    return !this.#isOver && this.#next < this.#entries.length
  }

  get isOver(): boolean {
    return this.#isOver
  }

  /** Whether a chunk is one that the list names, so that it comes by itself. */
  lists(firstBlock: number): boolean {
    return !this.#isOver && this.#indexes.has(objectKey(CHUNK_LEVEL, firstBlock))
  }

  start(entries: readonly BootListEntry[], pushed: number): void {
    if (this.#isOver) return
    this.#forgetGrants()
    this.#setList(entries)
    this.#mayGrant = true
    this.#isWarm = (this.#parts.diskCache?.stats().usedBytes ?? 0) > 0
    for (const [index, entry] of entries.slice(0, pushed).entries()) {
      // When the server sent these nobody knows.
      if (this.#isWaiting(index, entry)) this.#parts.grants.grant(entry, 0, undefined)
    }
  }

  /** The connection is lost, and with it what was granted. */
  onLost(): void {
    this.#forgetGrants()
    this.#mayGrant = false
    this.#forgetListWhenOver()
  }

  /** The boot is over. */
  stop(): void {
    this.#isOver = true
    this.#parts.tier.unguardAll()
    this.#forgetListWhenOver()
  }

  /**
   * Somebody waits for a chunk that the list names a little farther on: it is let come by push, with all
   * before it. A busy machine reads many such at a time; asked for one by one, each would cost both ends a
   * frame. Nothing happens where it is far.
   */
  hasten(firstBlock: number, nowMs: number): void {
    const index = this.#indexes.get(objectKey(CHUNK_LEVEL, firstBlock))
    if (!this.#mayGrant || index === undefined || index < this.#next) return
    if (!this.#isNear(index)) return
    for (; this.#next <= index; this.#next += 1) {
      const entry = this.#entries[this.#next]
      if (entry === undefined || !this.#isWaiting(this.#next, entry)) continue
      const way = this.#ways.of(entry, this.#isWarm)
      if (way.kind === 'none') this.#finish(entry)
      else if (way.kind !== 'push' || !this.#hasLead(way.rawBytes)) return
      else this.#grant(this.#next, entry, way.rawBytes, nowMs, this.#hastened)
    }
  }

  /** Goes on as far as it may. */
  advance(nowMs: number): void {
    while (this.#isRangeOver(this.#rangesGranted[0])) this.#rangesGranted.shift()
    const ranges = this.#hastened
    this.#hastened = []
    if (this.isActive) {
      if (this.#isWarm) this.#advanceNodes(nowMs, ranges)
      this.#advanceList(nowMs, ranges)
    }
    if (ranges.length === 0) return
    this.#rangesGranted.push(...ranges)
    this.#parts.push(ranges)
  }

  /**
   * Takes note that an object came. Returns whether it was pushed. `wasAsked`: it was asked for as
   * well, so that nobody can tell.
   */
  arrived(header: ObjectHeader, wasAsked: boolean, nowMs: number): boolean {
    const { grants, fetches } = this.#parts
    if (!this.#indexes.has(objectKey(header.level, header.position))) return false
    if (wasAsked) grants.answered(header)
    else {
      for (const leftOut of grants.pushed(header, nowMs)) {
        this.#finish(leftOut)
        fetches.notComing(leftOut)
      }
    }
    this.#finish(header)
    this.#forgetListWhenOver()
    return !wasAsked
  }

  /**
   * With a warm disk the nodes go first: what the disk has of the next version is only seen with the
   * leaf, and asking for one leaf after the other takes a round trip each.
   */
  #advanceNodes(nowMs: number, ranges: PushRange[]): void {
    for (; this.#nextNode < this.#entries.length; this.#nextNode += 1) {
      const entry = this.#entries[this.#nextNode]
      if (entry === undefined || entry.level === CHUNK_LEVEL) continue
      if (!this.#isWaiting(this.#nextNode, entry)) continue
      if (this.#parts.tree.hashOf(entry.level, entry.position) === undefined) return
      if (!this.#take(this.#nextNode, entry, nowMs, ranges)) return
    }
  }

  #advanceList(nowMs: number, ranges: PushRange[]): void {
    for (; this.#next < this.#entries.length; this.#next += 1) {
      const entry = this.#entries[this.#next]
      if (entry === undefined || !this.#isWaiting(this.#next, entry)) continue
      if (!this.#take(this.#next, entry, nowMs, ranges)) return
    }
  }

  /** Returns false when it must wait, and all behind it. */
  #take(index: number, entry: BootListEntry, nowMs: number, ranges: PushRange[]): boolean {
    const { leafPaths } = this.#parts
    const way = this.#ways.of(entry, this.#isWarm)
    switch (way.kind) {
      case 'none':
        this.#finish(entry)
        return true
      case 'unknown':
        if (way.leaf !== undefined) leafPaths.prefetch(way.leaf)
        return false
      case 'local':
        if (!this.#mayReadLocal() || !this.#hasLead(way.rawBytes)) return false
        this.#readLocal(entry, way.place)
        this.#finish(entry)
        return true
      case 'push':
        if (!this.#mayPush(entry, nowMs, ranges) || !this.#hasLead(way.rawBytes)) return false
        this.#grant(index, entry, way.rawBytes, nowMs, ranges)
        return true
    }
  }

  #grant(
    index: number,
    entry: BootListEntry,
    rawBytes: number,
    nowMs: number,
    ranges: PushRange[],
  ): void {
    this.#parts.grants.grant(entry, rawBytes, nowMs)
    addToRanges(ranges, index)
  }

  #isNear(index: number): boolean {
    let leftBytes = this.#parts.load.window.bytes * HASTE_SHARE
    for (let at = this.#next; at < index && leftBytes >= 0; at += 1) {
      const entry = this.#entries[at]
      if (entry !== undefined && this.#isWaiting(at, entry)) leftBytes -= entry.storedBytes
    }
    const isRoomForRanges = this.#rangesGranted.length + this.#hastened.length < PUSH_RANGES_MAX / 2
    return leftBytes >= 0 && isRoomForRanges
  }

  #readLocal(entry: BootListEntry, place: ChunkPlace | undefined): void {
    const { fetches, tree } = this.#parts
    if (place === undefined) return fetches.begin(createFetch(entry, PRIORITY.prefetch))
    const localAheadBytes = bytesOfBlocks(tree.sizeBytes, place.firstBlock, place.blocks)
    const chunk = { place, arrival: 'guarded', localAheadBytes } as const
    fetches.begin(createFetch(entry, PRIORITY.prefetch, chunk))
  }

  #mayReadLocal(): boolean {
    return this.#parts.fetches.localAheadBytes < LOCAL_BYTES_MAX
  }

  /** Whether the window has room; grants begin only when it is worth a frame. */
  #mayPush({ storedBytes }: BootListEntry, nowMs: number, ranges: readonly PushRange[]): boolean {
    if (!this.#mayGrant) return false
    if (this.#rangesGranted.length + ranges.length >= PUSH_RANGES_MAX / 2) return false
    const { load } = this.#parts
    if (load.isEmpty) return true
    if (!load.hasRoom(storedBytes, nowMs)) return false
    const worthBytes = Math.max(GRANT_BYTES_MIN, load.window.bytes * GRANT_SHARE)
    return ranges.length > 0 || load.roomBytes(nowMs) >= worthBytes
  }

  #hasLead(rawBytes: number): boolean {
    const { tier, grants, fetches } = this.#parts
    const aheadBytes = tier.guardedBytes + grants.rawBytes + fetches.localAheadBytes
    return aheadBytes + rawBytes <= tier.sizeBytes * LEAD_SHARE
  }

  #isWaiting(index: number, { level, position }: ObjectName): boolean {
    return this.#isDone[index] === 0 && !this.#parts.grants.has(level, position)
  }

  #finish({ level, position }: ObjectName): void {
    const key = objectKey(level, position)
    const index = this.#indexes.get(key)
    if (index === undefined) return
    this.#isDone[index] = 1
    this.#doneKeys.add(key)
  }

  #isRangeOver(range: PushRange | undefined): boolean {
    const last = range && this.#entries[range.end - 1]
    return last !== undefined && !this.#parts.grants.has(last.level, last.position)
  }

  #setList(entries: readonly BootListEntry[]): void {
    this.#entries = entries
    this.#isDone = new Uint8Array(entries.length)
    this.#indexes.clear()
    for (const [index, { level, position }] of entries.entries()) {
      const key = objectKey(level, position)
      this.#indexes.set(key, index)
      if (this.#doneKeys.has(key)) this.#isDone[index] = 1
    }
  }

  #forgetGrants(): void {
    const { grants, fetches } = this.#parts
    for (const entry of grants.clear()) fetches.notComing(entry)
    this.#rangesGranted = []
    this.#hastened = []
    this.#next = 0
    this.#nextNode = 0
  }

  /** It takes a megabyte or two. */
  #forgetListWhenOver(): void {
    if (!this.#isOver || !this.#parts.grants.isEmpty) return
    this.#doneKeys.clear()
    this.#setList([])
  }
}

function addToRanges(ranges: PushRange[], index: number): void {
  const last = ranges.at(-1)
  if (last !== undefined && last.end === index)
    ranges[ranges.length - 1] = { begin: last.begin, end: index + 1 }
  else ranges.push({ begin: index, end: index + 1 })
}
