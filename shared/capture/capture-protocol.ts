/**
 * How a machine sends its disk to become a vDisk: requests over HTTPS to the agents' port.
 *
 *     POST /capture                 what disk of what machine → an id, a token, a code to be shown
 *     GET  /capture/ID              what has become of it
 *     GET  /capture/ID/segments     hashes of the segments the server has, zeros for those it lacks
 *     PUT  /capture/ID/segments/N   a segment, packed by zstd, with its hash
 *     POST /capture/ID/finish       the hash of all hashes: the server makes the vDisk
 *
 * All but the first carry the token (`authorization: Bearer`). Nothing is taken before an operator has approved
 * the code.
 */
import * as v from 'valibot'
import { KiB, MiB } from '#shared/units.ts'
import { machineFactsSchema } from '../identity/machine-facts.ts'

export const CAPTURE_PATH = '/capture'

/** Large enough that asking costs little, small enough to be sent again. */
export const SEGMENT_BYTES: number = 4 * MiB

/** What zstd may make of bytes that cannot be packed. */
export const PACKED_BYTES_MAX: number = SEGMENT_BYTES + 64 * KiB

export const HASH_BYTES = 32

/** SHA-256 of the unpacked segment, hex. */
export const HASH_HEADER = 'x-segment-sha256'

/** The largest disks that systems are installed on; the server keeps 32 MiB of hashes for one. */
export const CAPTURE_BYTES_MAX: number = 4 * 1024 * 1024 * MiB

const text = v.pipe(v.string(), v.maxLength(128))

export const captureRequestSchema = v.object({
  facts: machineFactsSchema,
  disk: v.object({
    /** As the machine calls it: `sda`. */
    name: text,
    sizeBytes: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(CAPTURE_BYTES_MAX)),
  }),
})
export type CaptureRequest = v.InferOutput<typeof captureRequestSchema>

const hex = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/))

export const captureBegunSchema = v.object({
  id: hex,
  token: v.pipe(v.string(), v.minLength(16), v.maxLength(64)),
  /** What the operator types: `WDJB-MJHT`. */
  code: v.pipe(v.string(), v.maxLength(16)),
})
export type CaptureBegun = v.InferOutput<typeof captureBegunSchema>

/** waiting for an operator, approved, being made a vDisk, done, or failed for a reason. */
export const CAPTURE_STATES = ['waiting', 'approved', 'importing', 'done', 'failed'] as const

export const captureStatusSchema = v.object({
  state: v.picklist(CAPTURE_STATES),
  /** A sentence for a person: what is done now, what came of it, or what went wrong. */
  note: v.optional(v.pipe(v.string(), v.maxLength(1024)), ''),
})
export type CaptureStatus = v.InferOutput<typeof captureStatusSchema>

export const captureFinishSchema = v.object({
  /** SHA-256 over the hashes of all segments, in order; hex. */
  hash: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
})

export function segmentCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / SEGMENT_BYTES)
}

/** Length of a segment: the last one may be shorter. */
export function segmentBytes(sizeBytes: number, index: number): number {
  return Math.min(SEGMENT_BYTES, sizeBytes - index * SEGMENT_BYTES)
}
