/**
 * The two files of a write cache: opening, checking and recovering them. What comes out is the
 * shared memory through which all threads of this process use the cache.
 */

import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { BootwireError } from '#shared/errors.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { formatBytes } from '#shared/units.ts'
import { blockCount, SECTOR_BYTES } from './block-size.ts'
import { createSlotBitmap, SlotBitmap, type SlotBitmapMemory } from './slot-bitmap.ts'
import {
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
  readonly dataFd: number
  readonly tableFd: number
  /** Whether the files survive a loss of power. */
  readonly durable: boolean
  /** One word of write-cache-entry.ts per block. */
  readonly entries: SharedArrayBuffer
  readonly slots: SlotBitmapMemory
  /** Words of write-cache.ts. */
  readonly control: SharedArrayBuffer
}

export interface WriteCacheOptions extends CacheIdentity {
  /** Made when it is missing. */
  readonly folder: string
  /** Most bytes of data; rounded down to blocks, at most 64 GiB. */
  readonly limitBytes: number
  readonly durable: boolean
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

/** Read at once when a table is recovered. */
const RECOVERY_BYTES = 1024 * 1024

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
export function closeWriteCacheFiles(memory: WriteCacheMemory): void {
  closeSync(memory.dataFd)
  closeSync(memory.tableFd)
}

function openFiles(options: WriteCacheOptions): WriteCacheMemory {
  mkdirSync(options.folder, { recursive: true, mode: 0o700 })
  const dataFd = openSync(join(options.folder, DATA_FILE), OPEN_FLAGS, 0o600)
  try {
    const tableFd = openSync(join(options.folder, TABLE_FILE), OPEN_FLAGS, 0o600)
    try {
      return recover(options, dataFd, tableFd)
    } catch (error) {
      closeSync(tableFd)
      throw error
    }
  } catch (error) {
    closeSync(dataFd)
    throw error
  }
}

function recover(options: WriteCacheOptions, dataFd: number, tableFd: number): WriteCacheMemory {
  const dataBytes = fstatSync(dataFd).size
  const dataSlots = Math.ceil(dataBytes / BLOCK_BYTES)
  const limitSlots = Math.min(Math.floor(options.limitBytes / BLOCK_BYTES), SLOTS_MAX)
  const isNew = prepareTable(options, tableFd, dataBytes)
  const memory: WriteCacheMemory = {
    sizeBytes: options.sizeBytes,
    dataFd,
    tableFd,
    durable: options.durable,
    entries: new SharedArrayBuffer(blockCount(options.sizeBytes) * 4),
    slots: createSlotBitmap(limitSlots, dataSlots),
    control: new SharedArrayBuffer(CONTROL_WORDS * 4),
  }
  if (!isNew) readTable(memory, dataBytes)
  // Also cuts off the data of a write that was never acknowledged.
  const fileSlots = new SlotBitmap(memory.slots).end(dataSlots)
  ftruncateSync(dataFd, fileSlots * BLOCK_BYTES)
  new Int32Array(memory.control)[CONTROL_FILE_SLOTS] = fileSlots
  return memory
}

/** Makes a new table, or checks that the present one is this cache's. Returns whether it is new. */
function prepareTable(identity: CacheIdentity, tableFd: number, dataBytes: number): boolean {
  const tableBytes = TABLE_HEADER_BYTES + blockCount(identity.sizeBytes) * TABLE_ENTRY_BYTES
  const presentBytes = fstatSync(tableFd).size
  if (presentBytes === 0) {
    if (dataBytes > 0) throw unusable('its table is missing')
    writeSync(tableFd, encodeTableHeader(identity), 0, TABLE_HEADER_BYTES, 0)
  }
  const header = Buffer.alloc(TABLE_HEADER_BYTES)
  const headerBytes = readSync(tableFd, header, 0, TABLE_HEADER_BYTES, 0)
  checkTableHeader(header.subarray(0, headerBytes), identity)
  // A table that ends with its header was never used: its maker was killed before it grew.
  const isNew = presentBytes <= TABLE_HEADER_BYTES
  if (isNew) ftruncateSync(tableFd, tableBytes)
  else if (presentBytes !== tableBytes) {
    throw unusable(`its table has ${presentBytes} bytes, expected ${tableBytes}`)
  }
  return isNew
}

/** Fills the shared entries and the bitmap. Memory of what is not in the table stays untouched. */
function readTable(memory: WriteCacheMemory, dataBytes: number): void {
  const entries = new Int32Array(memory.entries)
  const slots = new SlotBitmap(memory.slots)
  const piece = Buffer.alloc(RECOVERY_BYTES)
  const empty = Buffer.alloc(RECOVERY_BYTES)
  for (let first = 0; first < entries.length; first += RECOVERY_BYTES / TABLE_ENTRY_BYTES) {
    const at = TABLE_HEADER_BYTES + first * TABLE_ENTRY_BYTES
    const length = readSync(memory.tableFd, piece, 0, RECOVERY_BYTES, at)
    if (empty.compare(piece, 0, length, 0, length) === 0) continue
    for (let offset = 0; offset < length; offset += TABLE_ENTRY_BYTES) {
      const entry = decodeEntry(piece, offset)
      if (entry === ENTRY_BASE) continue
      entries[first + offset / TABLE_ENTRY_BYTES] = entry
      if (hasSlot(entry)) takeSlot(slots, entry, dataBytes)
    }
  }
}

function takeSlot(slots: SlotBitmap, entry: number, dataBytes: number): void {
  const slot = entrySlot(entry)
  const sectors = WORD_BITS - Math.clz32(entryMask(entry)) // up to the last that was written
  if (entryOffset(entry) + sectors * SECTOR_BYTES > dataBytes) {
    throw unusable(`slot ${slot} is beyond the end of its data`)
  }
  if (!slots.takeThis(slot)) throw unusable(`two blocks claim slot ${slot}`)
}
