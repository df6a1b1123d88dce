/**
 * What one boot of a version read, as it is kept: recorded on a client, carried over from the version
 * before, or guessed at import. A file:
 *
 *     offset 0   magic `bwtrac` and two digits of the format, `02`
 *            8   CRC-32 of all from offset 12 on u32
 *           12   origin u8: 1 recorded, 2 carried over, 3 guessed
 *           13   length of the boot id u8, of the model in UTF-8 u16
 *           16   when it was recorded, in milliseconds since 1970 u64
 *           24   1 when an administrator has confirmed the client, else 0, u8
 *           25   length of the client's id u8
 *           26   boot id, model, client's id
 *            …   the trace, as PROTOCOL.md has it
 *
 * Integers big-endian.
 */
import { crc32 } from 'node:zlib'
import { BootwireError } from '#shared/errors.ts'
import { decodeTrace, encodeTrace, type TraceEntry } from '#shared/wire/frame.ts'

export const TRACE_ORIGINS = ['recorded', 'carried', 'guessed'] as const
export type TraceOrigin = (typeof TRACE_ORIGINS)[number]

export interface BootTrace {
  readonly origin: TraceOrigin
  /** Hex; with the origin it names the trace among those of its version. */
  readonly bootId: string
  readonly model: string
  /** Whose boot it was; empty for a guess. */
  readonly clientId: string
  /** Whether an administrator has decided about that client. */
  readonly isConfirmed: boolean
  readonly recordedAtMs: number
  /** In order of time. */
  readonly entries: readonly TraceEntry[]
}

const MAGIC = Buffer.from('bwtrac02')
const CRC_AT = 8
const ORIGIN_AT = 12
const LENGTHS_AT = 13
const TIME_AT = 16
const CONFIRMED_AT = 24
const CLIENT_LENGTH_AT = 25
const NAMES_AT = 26

export function encodeBootTrace(trace: BootTrace): Uint8Array {
  const header = Buffer.alloc(NAMES_AT)
  const bootId = Buffer.from(trace.bootId)
  const model = Buffer.from(trace.model)
  const clientId = Buffer.from(trace.clientId)
  header.set(MAGIC)
  header[ORIGIN_AT] = TRACE_ORIGINS.indexOf(trace.origin) + 1
  header[LENGTHS_AT] = bootId.length
  header.writeUInt16BE(model.length, LENGTHS_AT + 1)
  header.writeBigUInt64BE(BigInt(trace.recordedAtMs), TIME_AT)
  header[CONFIRMED_AT] = trace.isConfirmed ? 1 : 0
  header[CLIENT_LENGTH_AT] = clientId.length
  const bytes = Buffer.concat([header, bootId, model, clientId, encodeTrace(trace.entries)])
  bytes.writeUInt32BE(crc32(bytes.subarray(ORIGIN_AT)), CRC_AT)
  return bytes
}

/** @throws {BootwireError} STATE_UNREADABLE, MESSAGE_INVALID */
export function decodeBootTrace(bytes: Uint8Array): BootTrace {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (buffer.length < NAMES_AT) throw unreadable('it is too short')
  if (!buffer.subarray(0, CRC_AT).equals(MAGIC)) {
    throw unreadable('its format is not one this program knows')
  }
  if (buffer.readUInt32BE(CRC_AT) !== crc32(buffer.subarray(ORIGIN_AT))) {
    throw unreadable('its checksum is wrong')
  }
  const origin = TRACE_ORIGINS[(buffer[ORIGIN_AT] ?? 0) - 1]
  if (origin === undefined) throw unreadable('its origin is unknown')
  const modelAt = NAMES_AT + (buffer[LENGTHS_AT] ?? 0)
  const clientAt = modelAt + buffer.readUInt16BE(LENGTHS_AT + 1)
  const traceAt = clientAt + (buffer[CLIENT_LENGTH_AT] ?? 0)
  return {
    origin,
    bootId: buffer.toString('utf8', NAMES_AT, modelAt),
    model: buffer.toString('utf8', modelAt, clientAt),
    clientId: buffer.toString('utf8', clientAt, traceAt),
    isConfirmed: buffer[CONFIRMED_AT] === 1,
    recordedAtMs: Number(buffer.readBigUInt64BE(TIME_AT)),
    entries: decodeTrace(buffer.subarray(traceAt)),
  }
}

function unreadable(why: string): BootwireError {
  return new BootwireError('STATE_UNREADABLE', `Cannot use a trace: ${why}`)
}
