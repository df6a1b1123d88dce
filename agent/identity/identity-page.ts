/**
 * What a machine keeps of itself on a disk or stick: its key, and the servers it knows. The bytes are those
 * of FORMAT.md; pure.
 */
import { crc32 } from 'node:zlib'
import { SEED_BYTES } from './device-key.ts'

export interface IdentityRecord {
  /** SEED_BYTES. */
  readonly seed: Uint8Array
  /** Keys of servers that this machine was enrolled at (`spkiPin`), the newest last. */
  readonly serverPins: readonly string[]
}

export const IDENTITY_PAGE_BYTES = 4096

/** Two, written in turn: when the power fails meanwhile, the other one is still there. */
const SLOT_BYTES: number = IDENTITY_PAGE_BYTES / 2
const SLOTS = 2

const MAGIC = Buffer.from('bwid')
const VERSION = 1
const SEED_AT = 16
const PINS_AT: number = SEED_AT + SEED_BYTES
const PIN_BYTES = 32
/** As many as fit are 62; a machine that moves between more sites than this forgets the oldest. */
export const SERVER_PINS_MAX = 16

interface Slot extends IdentityRecord {
  readonly sequence: number
}

/** Returns what was written last, undefined where nothing sound is. */
export function decodeIdentityPage(page: Uint8Array): IdentityRecord | undefined {
  const newest = newestSlot(page)
  return newest && { seed: newest.seed, serverPins: newest.serverPins }
}

/** Returns the page with the record in it, beside the one that was there. */
export function encodeIdentityPage(page: Uint8Array, record: IdentityRecord): Buffer {
  const sequence = (newestSlot(page)?.sequence ?? 0) + 1
  const next = Buffer.from(page)
  next.set(encodeSlot(record, sequence), (sequence % SLOTS) * SLOT_BYTES)
  return next
}

function newestSlot(page: Uint8Array): Slot | undefined {
  const bytes = Buffer.from(page.buffer, page.byteOffset, page.length)
  const slots = Array.from({ length: SLOTS }, (_, at) =>
    decodeSlot(bytes.subarray(at * SLOT_BYTES, (at + 1) * SLOT_BYTES)),
  )
  return slots
    .filter((slot) => slot !== undefined)
    .toSorted((a, b) => b.sequence - a.sequence)
    .at(0)
}

function decodeSlot(slot: Buffer): Slot | undefined {
  if (slot.length !== SLOT_BYTES || !slot.subarray(4, 8).equals(MAGIC)) return undefined
  if (slot.readUInt32BE(0) !== crc32(slot.subarray(4))) return undefined
  const pinCount = slot.readUInt16BE(14)
  if (slot.readUInt16BE(12) !== VERSION || pinCount > SERVER_PINS_MAX) return undefined
  return {
    sequence: slot.readUInt32BE(8),
    seed: Buffer.from(slot.subarray(SEED_AT, PINS_AT)),
    serverPins: Array.from({ length: pinCount }, (_, at) =>
      slot.toString('base64url', PINS_AT + at * PIN_BYTES, PINS_AT + (at + 1) * PIN_BYTES),
    ),
  }
}

function encodeSlot({ seed, serverPins }: IdentityRecord, sequence: number): Buffer {
  const slot = Buffer.alloc(SLOT_BYTES)
  const pins = serverPins.slice(-SERVER_PINS_MAX)
  slot.set(MAGIC, 4)
  slot.writeUInt32BE(sequence, 8)
  slot.writeUInt16BE(VERSION, 12)
  slot.writeUInt16BE(pins.length, 14)
  slot.set(seed, SEED_AT)
  pins.forEach((pin, at) => slot.set(Buffer.from(pin, 'base64url'), PINS_AT + at * PIN_BYTES))
  slot.writeUInt32BE(crc32(slot.subarray(4)), 0)
  return slot
}
