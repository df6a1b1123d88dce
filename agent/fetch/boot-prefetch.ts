/**
 * Follows the boot list: what a boot is expected to need is brought into the RAM tier in that order,
 * pushed by the server or read from the local disk, as fast as the path's window allows and no
 * farther ahead of the kernel than the RAM tier can hold.
 *
 * An entry is *waiting*, *granted* (the server may push it) or *done*: it came, or need not come. The
 * server pushes in the order of the grants and leaves out what it has sent on demand; so what was
 * granted before something that came by push, and has not come, never will. Each grant ends: it comes,
 * pushed or asked for, or the host is told that it is not coming. When the boot is over nothing more is
 * granted.
 */

import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { blocksUnder, bytesOfBlocks, FAN_OUT, nodeOver } from '#shared/manifest/tree-shape.ts'
import { KiB, MiB } from '#shared/units.ts'
import {
  type BootListEntry,
  CHUNK_LEVEL,
  type ObjectHeader,
  type ObjectName,
  type PushRange,
} from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX, PUSH_RANGES_MAX } from '#shared/wire/limits.ts'
import type { DiskCache } from '../disk-cache/disk-cache.ts'
import type { RamTier } from '../ram-tier/ram-tier.ts'
import { objectKey } from './object-fetch.ts'
import type { PathLoad, Sent } from './path-load.ts'
import type { ChunkPlace, VersionTree } from './version-tree.ts'

/** What the fetcher does for it. */
export interface PrefetchHost {
  /** Bytes being read from the local disk ahead of the kernel. */
  readonly localBytes: number
  isWanted(level: number, position: number): boolean
  /** Whether somebody has read, or waits for, a chunk of this boot. */
  wasRead(firstBlock: number): boolean
  /** The local disk has it: reads it, a chunk into the RAM tier. */
  readLocal(name: ObjectName, place: ChunkPlace | undefined): void
  /** Gets a leaf, of the server if need be. */
  needLeaf(position: number): void
  push(ranges: readonly PushRange[]): void
  /** What was granted is not coming by that. */
  notComing(name: ObjectName): void
}

export interface PrefetchParts {
  readonly tree: VersionTree
  readonly tier: RamTier
  readonly load: PathLoad
  readonly diskCache: DiskCache | undefined
  readonly host: PrefetchHost
}

const WAITING = 0
const GRANTED = 1
const DONE = 2

/** Of the RAM tier; the rest is for what is read on demand. */
const LEAD_SHARE = 0.75
/** Small grants cost frames and system calls: a part of the window at a time. */
const GRANT_SHARE = 1 / 8
const GRANT_BYTES_MIN: number = 16 * KiB
/** Read from the local disk at a time: a demand read waits no longer than it takes to prove these. */
const LOCAL_BYTES_MAX: number = MiB
/** Reckoned of chunks whose leaf is not here yet; the usual is 0.35, and more would not be too much. */
const SHRINKING_AT_LEAST = 0.25
/** How long to wait for it when nothing is known of the path. */
const PATIENCE_MS_AT_FIRST = 50

export class BootPrefetch {
  readonly #parts: PrefetchParts
  #entries: readonly BootListEntry[] = []
  #states = new Uint8Array(0)
  /** By index, of what is granted. */
  readonly #sent = new Map<number, Sent>()
  #rawBytes = new Float64Array(0)
  readonly #indexes = new Map<number, number>()
  /** What is done stays so when the list comes again on another connection. */
  readonly #doneKeys = new Set<number>()
  /** Indexes in the order they were granted; some are done meanwhile. */
  #granted: number[] = []
  #rangesGranted: PushRange[] = []
  #next = 0
  #nextNode = 0
  #isWarm = false
  /** The server has told its list on the connection there is; before that it cannot push. */
  #mayGrant = false
  #isStopped = false
  #grantedRawBytes = 0
  #pushedBytes = 0
  /** Stored bytes of pushed chunks that nobody has read. */
  readonly #unusedBytes = new Map<number, number>()

  constructor(parts: PrefetchParts) {
    this.#parts = parts
  }

  get pushedBytes(): number {
    return this.#pushedBytes
  }

  get unusedBytes(): number {
    let sum = 0
    for (const bytes of this.#unusedBytes.values()) sum += bytes
    return sum
  }

  /** Whether there is more to bring. */
  get isActive(): boolean {
    return !this.#isStopped && this.#next < this.#entries.length
  }

  /** Whether the boot is over: nothing comes ahead of it any more. */
  get isOver(): boolean {
    return this.#isStopped
  }

  start(entries: readonly BootListEntry[], pushed: number): void {
    if (this.#isStopped) return
    this.#forgetGrants()
    this.#setList(entries)
    this.#mayGrant = true
    this.#isWarm = (this.#parts.diskCache?.stats().usedBytes ?? 0) > 0
    for (let index = 0; index < Math.min(pushed, entries.length); index += 1) {
      // When the server sent these nobody knows.
      if (this.#states[index] === WAITING) this.#grant(index, 0, undefined)
    }
  }

  /** The connection is lost, and with it what was granted. */
  onLost(): void {
    this.#forgetGrants()
    this.#mayGrant = false
    this.#forgetListWhenOver()
  }

  /** The boot is over. What is granted still comes. */
  stop(): void {
    this.#isStopped = true
    this.#parts.tier.unguardAll()
    this.#forgetListWhenOver()
  }

  /** Goes on as far as it may. */
  advance(nowMs: number): void {
    if (!this.isActive) return
    while (this.#isRangeOver(this.#rangesGranted[0])) this.#rangesGranted.shift()
    const ranges: PushRange[] = []
    if (this.#isWarm) this.#advanceNodes(nowMs, ranges)
    this.#advanceList(nowMs, ranges)
    if (ranges.length === 0) return
    this.#rangesGranted.push(...ranges)
    this.#parts.host.push(ranges)
  }

  /**
   * Takes note that an object came. Returns whether it was pushed. `wasAsked`: it was asked for as
   * well, so that nobody can tell.
   */
  arrived(header: ObjectHeader, wasAsked: boolean, nowMs: number): boolean {
    const { level, position, storedBytes } = header
    const index = this.#indexes.get(objectKey(level, position))
    if (index === undefined) return false
    const sent = this.#sent.get(index)
    if (sent !== undefined && !wasAsked) this.#parts.load.arrived(sent, storedBytes, nowMs)
    this.#finish(index)
    if (sent !== undefined && !wasAsked) this.#dropGrantsBefore(index)
    this.#forgetListWhenOver()
    if (wasAsked) return false
    this.#pushedBytes += storedBytes
    const isUnused = level === CHUNK_LEVEL && storedBytes > 0 && !this.#parts.host.wasRead(position)
    if (isUnused) this.#unusedBytes.set(position, storedBytes)
    return true
  }

  /** When an object that was granted is expected; undefined when it was not. */
  expectedAtMs(level: number, position: number, nowMs: number): number | undefined {
    const index = this.#indexes.get(objectKey(level, position))
    const sent = index === undefined ? undefined : this.#sent.get(index)
    if (sent === undefined) return undefined
    const { usualMs } = this.#parts.load.window
    const isKnown = sent.atMs !== undefined && usualMs > 0
    return isKnown ? sent.atMs + usualMs : nowMs + PATIENCE_MS_AT_FIRST
  }

  /** Whether a chunk is one that the boot list names, so that it comes by itself. */
  lists(firstBlock: number): boolean {
    return !this.#isStopped && this.#indexes.has(objectKey(CHUNK_LEVEL, firstBlock))
  }

  /** Somebody has read a chunk. */
  used(firstBlock: number): void {
    this.#unusedBytes.delete(firstBlock)
  }

  /**
   * With a warm disk the nodes go first: what the disk has of the next version is only seen with the
   * leaf, and asking for one leaf after the other takes a round trip each.
   */
  #advanceNodes(nowMs: number, ranges: PushRange[]): void {
    for (; this.#nextNode < this.#entries.length; this.#nextNode += 1) {
      const entry = this.#entries[this.#nextNode]
      if (entry === undefined || entry.level === CHUNK_LEVEL) continue
      if (this.#states[this.#nextNode] !== WAITING) continue
      if (this.#parts.tree.hashOf(entry.level, entry.position) === undefined) return
      if (!this.#take(this.#nextNode, entry, nowMs, ranges)) return
    }
  }

  #advanceList(nowMs: number, ranges: PushRange[]): void {
    for (; this.#next < this.#entries.length; this.#next += 1) {
      const entry = this.#entries[this.#next]
      if (entry === undefined || this.#states[this.#next] !== WAITING) continue
      if (!this.#take(this.#next, entry, nowMs, ranges)) return
    }
  }

  /** Returns false when it must wait, and all behind it. */
  #take(index: number, entry: BootListEntry, nowMs: number, ranges: PushRange[]): boolean {
    const { host } = this.#parts
    const way = entry.level === CHUNK_LEVEL ? this.#chunkWay(entry) : this.#nodeWay(entry)
    switch (way.kind) {
      case 'none':
        this.#finish(index)
        return true
      case 'blocked':
        return false
      case 'local':
        if (host.localBytes >= LOCAL_BYTES_MAX || !this.#hasLead(way.rawBytes)) return false
        host.readLocal(entry, way.place)
        this.#finish(index)
        return true
      case 'push':
        if (!this.#mayPush(entry, nowMs, ranges) || !this.#hasLead(way.rawBytes)) return false
        this.#grant(index, way.rawBytes, nowMs)
        addToRanges(ranges, index)
        return true
    }
  }

  #nodeWay({ level, position }: ObjectName): Way {
    const { tree, host, diskCache } = this.#parts
    const hash = tree.hashOf(level, position)
    if (tree.has(level, position) || hash === 'zeros') return { kind: 'none' }
    if (host.isWanted(level, position)) return { kind: 'none' }
    // Whether a warm disk has it is only seen with its parent.
    if (hash === undefined && this.#isWarm) {
      const parent = Math.floor(position / FAN_OUT)
      if (!this.#isComing(level + 1, parent)) {
        host.needLeaf(nodeOver(position * blocksUnder(level), LEAF_LEVEL))
      }
      return { kind: 'blocked' }
    }
    if (hash !== undefined && diskCache?.has(hash) === true) return { kind: 'local', rawBytes: 0 }
    return { kind: 'push', rawBytes: 0 }
  }

  #isComing(level: number, position: number): boolean {
    const index = this.#indexes.get(objectKey(level, position))
    const isGranted = index !== undefined && this.#states[index] === GRANTED
    return isGranted || this.#parts.host.isWanted(level, position)
  }

  #chunkWay(entry: BootListEntry): Way {
    const { tree, tier, host, diskCache } = this.#parts
    const { position } = entry
    if (position >= tree.blocks) return { kind: 'none' }
    const place = tree.find(position)
    if (place.kind === 'unknown') return this.#unknownChunkWay(entry)
    const isChunk = place.kind === 'chunk' && place.firstBlock === position
    if (!isChunk || tier.has(position)) return { kind: 'none' }
    if (host.isWanted(CHUNK_LEVEL, position)) return { kind: 'none' }
    const rawBytes = bytesOfBlocks(tree.sizeBytes, position, place.blocks)
    if (diskCache?.has(place.hash) === true) return { kind: 'local', rawBytes, place }
    return { kind: 'push', rawBytes }
  }

  /** Its leaf is not here: pushed behind it, or else waited for. */
  #unknownChunkWay({ position, storedBytes }: BootListEntry): Way {
    const leaf = nodeOver(position, LEAF_LEVEL)
    const isComing = this.#isComing(LEAF_LEVEL, leaf)
    if (isComing && !this.#isWarm) {
      return { kind: 'push', rawBytes: Math.min(CHUNK_BYTES_MAX, storedBytes / SHRINKING_AT_LEAST) }
    }
    if (!isComing) this.#parts.host.needLeaf(leaf)
    return { kind: 'blocked' }
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
    const { tier, host } = this.#parts
    const aheadBytes = tier.guardedBytes + this.#grantedRawBytes + host.localBytes
    return aheadBytes + rawBytes <= tier.sizeBytes * LEAD_SHARE
  }

  #grant(index: number, rawBytes: number, nowMs: number | undefined): void {
    const { storedBytes } = this.#entries[index] ?? { storedBytes: 0 }
    this.#states[index] = GRANTED
    this.#sent.set(index, this.#parts.load.send(storedBytes, nowMs))
    this.#granted.push(index)
    this.#rawBytes[index] = rawBytes
    this.#grantedRawBytes += rawBytes
  }

  #finish(index: number): void {
    const entry = this.#entries[index]
    if (entry === undefined) return
    this.#endGrant(index)
    this.#states[index] = DONE
    this.#doneKeys.add(objectKey(entry.level, entry.position))
  }

  /** Returns whether there was one. */
  #endGrant(index: number): boolean {
    const sent = this.#sent.get(index)
    if (sent === undefined) return false
    this.#sent.delete(index)
    this.#parts.load.dropped(sent)
    this.#grantedRawBytes -= this.#rawBytes[index] ?? 0
    return true
  }

  #dropGrantsBefore(index: number): void {
    const at = this.#granted.indexOf(index)
    for (const leftOut of this.#granted.splice(0, at + 1)) {
      if (!this.#sent.has(leftOut)) continue
      this.#finish(leftOut)
      this.#tellNotComing(leftOut)
    }
  }

  #tellNotComing(index: number): void {
    const entry = this.#entries[index]
    if (entry !== undefined) this.#parts.host.notComing(entry)
  }

  #isRangeOver(range: PushRange | undefined): boolean {
    return range !== undefined && this.#states[range.end - 1] === DONE
  }

  #setList(entries: readonly BootListEntry[]): void {
    this.#entries = entries
    this.#states = new Uint8Array(entries.length)
    this.#rawBytes = new Float64Array(entries.length)
    this.#indexes.clear()
    for (const [index, { level, position }] of entries.entries()) {
      const key = objectKey(level, position)
      this.#indexes.set(key, index)
      if (this.#doneKeys.has(key)) this.#states[index] = DONE
    }
    this.#next = 0
    this.#nextNode = 0
  }

  #forgetGrants(): void {
    for (const index of this.#granted.splice(0)) {
      if (!this.#endGrant(index)) continue
      this.#states[index] = WAITING
      this.#tellNotComing(index)
    }
    this.#rangesGranted = []
    this.#next = 0
    this.#nextNode = 0
  }

  /** It takes a megabyte or two. */
  #forgetListWhenOver(): void {
    if (!this.#isStopped || this.#sent.size > 0) return
    this.#granted = []
    this.#doneKeys.clear()
    this.#setList([])
  }
}

/** How an entry gets here. */
type Way =
  | { readonly kind: 'none' | 'blocked' }
  | { readonly kind: 'push'; readonly rawBytes: number }
  | { readonly kind: 'local'; readonly rawBytes: number; readonly place?: ChunkPlace }

function addToRanges(ranges: PushRange[], index: number): void {
  const last = ranges.at(-1)
  if (last !== undefined && last.end === index)
    ranges[ranges.length - 1] = { begin: last.begin, end: index + 1 }
  else ranges.push({ begin: index, end: index + 1 })
}
