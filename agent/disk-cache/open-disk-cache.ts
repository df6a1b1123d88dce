/** Opens a cache partition: reads its state, its use table and its index, in one go over the disk. */
import { BootwireError } from '#shared/errors.ts'
import type { DiskDevice } from '../local-disk/disk-device.ts'
import { CacheHealth } from './cache-health.ts'
import {
  CACHE_BYTES_MIN,
  type CacheLayout,
  INDEX_BYTES,
  layoutOf,
  PAGE_BYTES,
  SEGMENT_BYTES,
  SEGMENT_UNITS,
  STATE_OFFSETS,
  SUPERBLOCK_OFFSET,
  USES_OFFSET,
  usePages,
} from './cache-layout.ts'
import type { CacheParts } from './cache-parts.ts'
import { CacheStateKeeper } from './cache-state.ts'
import { DiskReader, READ_DEADLINE_MS } from './disk-reader.ts'
import { type HeadSegment, resumeSegment } from './head-segment.ts'
import { ENTRIES_MAX } from './index-page.ts'
import { LogDiskCache } from './log-disk-cache.ts'
import { ObjectIndex } from './object-index.ts'
import { type FoundPage, findPages, readPage } from './segment-index.ts'
import { SegmentWriter } from './segment-writer.ts'
import { type CacheState, decodeState } from './state-page.ts'
import { decodeSuperblock, type Superblock } from './superblock.ts'
import { decodeUses } from './uses-page.ts'
import { budgetRules, WriteBudget } from './write-budget.ts'

/** Index read at once: a disk's best speed, and 5 ms of this thread. */
const LOAD_SEGMENTS = 64

export interface OpenCacheOptions {
  readonly device: DiskDevice
  /** Something got worse; a sentence. */
  readonly onProblem: (problem: string) => void
  /** Whether what the disk does not give can be had elsewhere just now. */
  readonly hasServer: () => boolean
  /** What the administrator allows to be written in a day. */
  readonly budgetBytesPerDay?: number
  readonly readDeadlineMs?: number
  readonly writeDeadlineMs?: number
  readonly flushMs?: number
  /** Milliseconds that never go back; only given by tests. */
  readonly now?: () => number
}

/**
 * The device belongs to the cache from now on.
 * @throws {BootwireError} CACHE_UNUSABLE when it is not a cache of this format; what reading throws
 */
export async function openDiskCache(options: OpenCacheOptions): Promise<LogDiskCache> {
  const { device, onProblem, hasServer, now = () => performance.now() } = options
  const { id: cacheId, layout, index, state, newest } = await loadCache(device)
  const rules = budgetRules(layout.segments * SEGMENT_BYTES, options.budgetBytesPerDay)
  const budget = new WriteBudget(rules, state.budgetLeftBytes, now)
  const keeper = new CacheStateKeeper({ device, cacheId, index, budget, state, now })
  const health = new CacheHealth(onProblem)
  const parts: CacheParts = { device, cacheId, layout, index, budget, keeper, health }
  const deadlineMs = options.readDeadlineMs ?? READ_DEADLINE_MS
  return new LogDiskCache({
    parts,
    hasServer,
    reader: new DiskReader({ device, health, hasServer, deadlineMs }),
    writer: new SegmentWriter({
      parts,
      head: newest !== undefined && newest.entries < ENTRIES_MAX ? newest : undefined,
      sequence: newest?.sequence ?? 0,
      ...(options.flushMs !== undefined && { flushMs: options.flushMs }),
      ...(options.writeDeadlineMs !== undefined && { writeDeadlineMs: options.writeDeadlineMs }),
    }),
  })
}

export interface LoadedCache {
  readonly id: Buffer
  readonly layout: CacheLayout
  readonly index: ObjectIndex
  readonly state: CacheState
  /** The segment that was begun last. */
  readonly newest: HeadSegment | undefined
}

/** Only reads. @throws {BootwireError} CACHE_UNUSABLE; what reading throws */
export async function loadCache(device: DiskDevice): Promise<LoadedCache> {
  const { id, sizeBytes } = await readSuperblock(device)
  const layout = layoutOf(sizeBytes)
  const index = new ObjectIndex(layout.segments)
  const state = await readState(device, id, layout)
  index.reserve(state.objects)
  await readUses(device, id, index)
  const newest = await readIndex(device, id, layout, index, state.segmentsUsed)
  return { id, layout, index, state, newest }
}

/** Of the two copies the first that is sound. @throws {BootwireError} CACHE_UNUSABLE */
async function readSuperblock(device: DiskDevice): Promise<Superblock> {
  if (device.sizeBytes < CACHE_BYTES_MIN) throw unusable(`it has only ${device.sizeBytes} bytes`)
  const page = Buffer.alloc(PAGE_BYTES)
  let why = ''
  for (const offset of [SUPERBLOCK_OFFSET, layoutOf(device.sizeBytes).copyOffset]) {
    await device.read(page, offset)
    const superblock = decodeSuperblock(page)
    if (typeof superblock !== 'string') {
      if (superblock.sizeBytes <= device.sizeBytes) return superblock
      throw unusable(`it was formatted with ${superblock.sizeBytes} bytes, has ${device.sizeBytes}`)
    }
    if (why === '') why = superblock
  }
  throw unusable(why)
}

/** Where neither page is sound, the cache begins with nothing to spend, and looks everywhere. */
async function readState(
  device: DiskDevice,
  cacheId: Buffer,
  { segments }: CacheLayout,
): Promise<CacheState> {
  const lost = {
    sequence: 0,
    clock: 0,
    budgetLeftBytes: 0,
    segmentsUsed: segments,
    objects: 0,
    writtenBytes: 0,
  }
  let newest: CacheState = lost
  for (const offset of STATE_OFFSETS) {
    const page = Buffer.alloc(PAGE_BYTES)
    await device.read(page, offset)
    const state = decodeState(page, cacheId)
    if (state === undefined || state.segmentsUsed > segments) continue
    if (newest === lost || state.sequence > newest.sequence) newest = state
  }
  return newest
}

async function readUses(
  device: DiskDevice,
  cacheId: Buffer,
  { segments }: ObjectIndex,
): Promise<void> {
  const pages = Buffer.allocUnsafeSlow(usePages(segments.count) * PAGE_BYTES)
  await device.read(pages, USES_OFFSET)
  for (let page = 0; page < usePages(segments.count); page += 1) {
    const bytes = pages.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
    decodeUses(bytes, page, cacheId, segments.uses)
  }
}

/** Fills the index. Returns the segment that was begun last, to be gone on with. */
async function readIndex(
  device: DiskDevice,
  cacheId: Buffer,
  layout: CacheLayout,
  index: ObjectIndex,
  segmentsUsed: number,
): Promise<HeadSegment | undefined> {
  let newest: HeadSegment | undefined
  const buffers = [0, 1].map(() => Buffer.allocUnsafeSlow(LOAD_SEGMENTS * INDEX_BYTES))
  const load = async (first: number) => {
    const count = Math.min(LOAD_SEGMENTS, segmentsUsed - first)
    const pages = buffers[(first / LOAD_SEGMENTS) % 2]?.subarray(
      0,
      Math.max(0, count) * INDEX_BYTES,
    )
    if (pages !== undefined && count > 0) {
      await device.read(pages, layout.indexOffset + first * INDEX_BYTES)
    }
    return pages ?? Buffer.alloc(0)
  }
  // The next piece is read while this one is looked at.
  let loading = load(0)
  for (let first = 0; first < segmentsUsed; first += LOAD_SEGMENTS) {
    const pages = await loading
    loading = load(first + LOAD_SEGMENTS)
    for (let at = 0; at * INDEX_BYTES < pages.length; at += 1) {
      const slots = pages.subarray(at * INDEX_BYTES, (at + 1) * INDEX_BYTES)
      const found = loadSegment(slots, first + at, cacheId, index)
      const sequence = found[0]?.sequence ?? 0
      if (sequence > (newest?.sequence ?? 0)) newest = resumeSegment(first + at, found, slots)
    }
  }
  await loading
  return newest
}

function loadSegment(
  slots: Buffer,
  segment: number,
  cacheId: Buffer,
  index: ObjectIndex,
): readonly FoundPage[] {
  const pages = findPages(slots, segment, cacheId)
  for (const page of pages) {
    index.segments.sequences[segment] = page.sequence
    readPage(slots, page, (at, unit, units) => {
      index.load(slots, at, segment * SEGMENT_UNITS + unit, units)
    })
  }
  return pages
}

function unusable(why: string): BootwireError {
  return new BootwireError('CACHE_UNUSABLE', `Cannot use the local disk cache: ${why}`)
}
