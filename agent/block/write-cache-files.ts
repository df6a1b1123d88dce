/**
 * The two files of a write cache: opening, checking and recovering them. What comes out is the
 * shared memory through which all threads of this process use the cache.
 */

import { closeSync, constants, fstatSync, ftruncateSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { BootwireError } from '#shared/errors.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { formatBytes, MiB } from '#shared/units.ts'
import { EXTENT_BYTES } from '../write-area/area-layout.ts'
import type { AreaShare } from '../write-area/area-share.ts'
import { blockCount, SECTOR_BYTES } from './block-size.ts'
import { createExtents, PlacedFile, type PlacedFileMemory } from './placed-file.ts'
import { createSlotBitmap, SlotBitmap, type SlotBitmapMemory } from './slot-bitmap.ts'
import {
  ENTRY_AWAY,
  ENTRY_BASE,
  entryMask,
  entryOffset,
  entrySlot,
  hasSlot,
  SLOTS_MAX,
} from './write-cache-entry.ts'
import {
  type CacheIdentity,
  checkTableHeader,
  decodeEntry,
  encodeTableHeader,
  TABLE_ENTRY_BYTES,
  TABLE_HEADER_BYTES,
  unusable,
} from './write-cache-format.ts'

/** What a thread needs to use the cache. */
export interface WriteCacheMemory {
  readonly sizeBytes: number
  readonly data: PlacedFileMemory
  readonly table: PlacedFileMemory
  /** Whether the files survive a loss of power. */
  readonly durable: boolean
  /** Slots there may come to be. */
  readonly slotsMax: number
  /** Of these, those that are kept for when the system goes down. */
  readonly slotsReserved: number
  /** One word of write-cache-entry.ts per block. */
  readonly entries: SharedArrayBuffer
  readonly slots: SlotBitmapMemory
  /** Words of write-cache.ts. */
  readonly control: SharedArrayBuffer
  /** A bit per block that was changed since it was last given to the server; absent without one. */
  readonly changed: SharedArrayBuffer | undefined
}

export interface WriteCacheOptions extends CacheIdentity {
  /** Made when it is missing; holds the table, and the first of the data. */
  readonly folder: string
  /** Most bytes of data in the folder; rounded down to blocks. */
  readonly limitBytes: number
  /** Room on the local disk for more of the data; for the table as well when it has extents for one. */
  readonly share?: AreaShare | undefined
  readonly durable: boolean
  /** Whether a server takes what is written. */
  readonly hasServer?: boolean
  /** Of all the room, what is kept for when the system goes down. Default is none. */
  readonly reserveBytes?: number
}

export const DATA_FILE = 'data'
export const TABLE_FILE = 'table'

const OPEN_FLAGS = constants.O_RDWR | constants.O_CREAT

const CONTROL_WORDS = 16
/** The words that `WriteCache` keeps its state in. */
export const CONTROL_LOCK = 0
export const CONTROL_FILE_SLOTS = 1
export const CONTROL_FILL_LEVEL = 2
export const CONTROL_DROPS = 3
/** Counts on when slots became free, or more of them came. */
export const CONTROL_ROOM = 4

/** Read at once when a table is recovered. */
const RECOVERY_BYTES: number = MiB

const WORD_BITS = 32

/**
 * Opens the cache in the folder with everything that was acknowledged, or an empty one when there
 * is none. The files stay open until `closeWriteCacheFiles`.
 * @throws {BootwireError} WRITE_CACHE_UNUSABLE; CLIENT_MEMORY when there is none for its entries
 */
export function openWriteCacheFiles(options: WriteCacheOptions): WriteCacheMemory {
  try {
    return openFiles(options)
  } catch (cause) {
    if (cause instanceof RangeError) {
      const size = formatBytes(options.sizeBytes)
      throw new BootwireError(
        'CLIENT_MEMORY',
        `Cannot open a write cache for a vDisk of ${size}: there is no memory for it`,
        { cause },
      )
    }
    const isOfSystem = cause instanceof Error && 'syscall' in cause
    throw isOfSystem ? unusable(`"${options.folder}": ${cause.message}`, cause) : cause
  }
}

/** Call when no thread uses the cache any longer. */
export function closeWriteCacheFiles({ data, table }: WriteCacheMemory): void {
  for (const fd of new Set([data.headFd, data.areaFd, table.headFd])) if (fd >= 0) closeSync(fd)
}

function openFiles(options: WriteCacheOptions): WriteCacheMemory {
  const opened: number[] = []
  const openFile = (path: string, flags: number): number => {
    const fd = openSync(path, flags, 0o600)
    opened.push(fd)
    return fd
  }
  try {
    const { folder, share } = options
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const headFd = openFile(join(folder, DATA_FILE), OPEN_FLAGS)
    const areaFd = share === undefined ? -1 : openFile(share.path, constants.O_RDWR)
    const isTableInArea = share !== undefined && share.table.length > 0
    const tableFd = isTableInArea ? -1 : openFile(join(folder, TABLE_FILE), OPEN_FLAGS)
    return recover(options, { headFd, areaFd, tableFd })
  } catch (error) {
    for (const fd of opened) closeSync(fd)
    throw error
  }
}

interface Descriptors {
  readonly headFd: number
  readonly areaFd: number
  /** -1 where the table lies in the area. */
  readonly tableFd: number
}

function recover(options: WriteCacheOptions, descriptors: Descriptors): WriteCacheMemory {
  const { headFd, areaFd, tableFd } = descriptors
  const { share, sizeBytes } = options
  const headSlots = Math.min(Math.floor(options.limitBytes / BLOCK_BYTES), SLOTS_MAX)
  const dataBytes = fstatSync(headFd).size
  // A data file may be longer than its limit, which was lowered; then nothing is in the area.
  const dataSlots = Math.ceil(dataBytes / BLOCK_BYTES)
  const areaBytes = (share?.data.length ?? 0) * EXTENT_BYTES
  const capacityBytes = Math.max(areaBytes, share?.capacityBytes ?? 0)
  const capacity = Math.min(headSlots + capacityBytes / BLOCK_BYTES, SLOTS_MAX)
  const limit = Math.min(headSlots + areaBytes / BLOCK_BYTES, capacity)
  const headBytes = share === undefined ? Number.MAX_SAFE_INTEGER : headSlots * BLOCK_BYTES
  const table: PlacedFileMemory = {
    headFd: tableFd,
    headBytes: tableFd < 0 ? 0 : Number.MAX_SAFE_INTEGER,
    areaFd,
    extents: createExtents(share?.table ?? [], 0),
  }
  const isNew = prepareTable(options, table, dataBytes)
  const reserve = Math.min(Math.floor((options.reserveBytes ?? 0) / BLOCK_BYTES), capacity)
  const memory: WriteCacheMemory = {
    sizeBytes,
    data: {
      headFd,
      headBytes,
      areaFd,
      extents: createExtents(share?.data ?? [], Math.ceil(capacityBytes / EXTENT_BYTES)),
    },
    table,
    durable: options.durable,
    slotsMax: capacity,
    slotsReserved: reserve,
    entries: new SharedArrayBuffer(blockCount(sizeBytes) * 4),
    slots: createSlotBitmap({ limit, capacity, reserve, present: dataSlots }),
    control: new SharedArrayBuffer(CONTROL_WORDS * 4),
    changed: options.hasServer === true ? createChanged(sizeBytes) : undefined,
  }
  const bounds = { headBytes: Math.min(dataBytes, headBytes), headSlots, limitSlots: limit }
  if (!isNew) readTable(memory, share === undefined ? { ...bounds, headSlots: SLOTS_MAX } : bounds)
  // Also cuts off the data of a write that was never acknowledged.
  const fileSlots = new SlotBitmap(memory.slots).end(dataSlots)
  ftruncateSync(headFd, fileSlots * BLOCK_BYTES)
  new Int32Array(memory.control)[CONTROL_FILE_SLOTS] = fileSlots
  return memory
}

function createChanged(sizeBytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(Math.ceil(blockCount(sizeBytes) / WORD_BITS) * 4)
}

/** Makes a new table, or checks that the present one is this cache's. Returns whether it is new. */
function prepareTable(
  identity: CacheIdentity,
  table: PlacedFileMemory,
  dataBytes: number,
): boolean {
  const file = new PlacedFile(table)
  const header = Buffer.alloc(TABLE_HEADER_BYTES)
  if (table.headFd < 0) {
    // An extent is all zeros when it is new.
    file.read(header, 0, TABLE_HEADER_BYTES, 0)
    const isNew = header.every((byte) => byte === 0)
    if (isNew) file.write(encodeTableHeader(identity), 0, TABLE_HEADER_BYTES, 0)
    else checkTableHeader(header, identity)
    return isNew
  }
  const tableBytes = tableLength(identity.sizeBytes)
  const presentBytes = fstatSync(table.headFd).size
  if (presentBytes === 0) {
    if (dataBytes > 0) throw unusable('its table is missing')
    file.write(encodeTableHeader(identity), 0, TABLE_HEADER_BYTES, 0)
  }
  const headerBytes = presentBytes === 0 ? TABLE_HEADER_BYTES : presentBytes
  const readBytes = Math.min(headerBytes, TABLE_HEADER_BYTES)
  file.read(header, 0, readBytes, 0)
  checkTableHeader(header.subarray(0, readBytes), identity)
  // A table that ends with its header was never used: its maker was killed before it grew.
  const isNew = presentBytes <= TABLE_HEADER_BYTES
  if (isNew) ftruncateSync(table.headFd, tableBytes)
  else if (presentBytes !== tableBytes) {
    throw unusable(`its table has ${presentBytes} bytes, expected ${tableBytes}`)
  }
  return isNew
}

/** Bytes of the table of a vDisk of that size. */
export function tableLength(sizeBytes: number): number {
  return TABLE_HEADER_BYTES + blockCount(sizeBytes) * TABLE_ENTRY_BYTES
}

/** What slots there may be when a table is read. */
interface SlotBounds {
  /** Length of the data in the folder. */
  readonly headBytes: number
  /** Slots of the folder; those behind are in the area. */
  readonly headSlots: number
  readonly limitSlots: number
}

/** Fills the shared entries and the bitmap. Memory of what is not in the table stays untouched. */
function readTable(memory: WriteCacheMemory, bounds: SlotBounds): void {
  const entries = new Int32Array(memory.entries)
  const slots = new SlotBitmap(memory.slots)
  const table = new PlacedFile(memory.table)
  const changed = memory.changed && new Int32Array(memory.changed)
  const piece = Buffer.alloc(RECOVERY_BYTES)
  const empty = Buffer.alloc(RECOVERY_BYTES)
  const endBytes = tableLength(memory.sizeBytes)
  for (let at = TABLE_HEADER_BYTES; at < endBytes; at += RECOVERY_BYTES) {
    const first = (at - TABLE_HEADER_BYTES) / TABLE_ENTRY_BYTES
    const length = Math.min(RECOVERY_BYTES, endBytes - at)
    table.read(piece, 0, length, at)
    if (empty.compare(piece, 0, length, 0, length) === 0) continue
    for (let offset = 0; offset < length; offset += TABLE_ENTRY_BYTES) {
      const entry = decodeEntry(piece, offset)
      if (entry === ENTRY_BASE) continue
      entries[first + offset / TABLE_ENTRY_BYTES] = entry
      if (hasSlot(entry)) takeSlot(slots, entry, bounds)
      // What the process before has told the server nobody knows.
      if (changed !== undefined && entry !== ENTRY_AWAY) {
        const block = first + offset / TABLE_ENTRY_BYTES
        changed[block >>> 5] = (changed[block >>> 5] ?? 0) | (1 << (block & 31))
      }
    }
  }
}

function takeSlot(slots: SlotBitmap, entry: number, bounds: SlotBounds): void {
  const slot = entrySlot(entry)
  const sectors = WORD_BITS - Math.clz32(entryMask(entry)) // up to the last that was written
  const isInHead = slot < bounds.headSlots
  const isBeyond = isInHead
    ? entryOffset(entry) + sectors * SECTOR_BYTES > bounds.headBytes
    : slot >= bounds.limitSlots
  if (isBeyond) throw unusable(`slot ${slot} is beyond the end of its data`)
  if (!slots.takeThis(slot)) throw unusable(`two blocks claim slot ${slot}`)
}
