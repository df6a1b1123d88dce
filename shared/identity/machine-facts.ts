/**
 * What a machine says of itself. Claims, never proof: they find the client in the database and let a
 * person recognise the machine.
 */
import * as v from 'valibot'
import { MACS_MAX } from '#shared/wire/limits.ts'

const FACT_LENGTH_MAX = 128

const fact = v.pipe(v.string(), v.maxLength(FACT_LENGTH_MAX))

export const machineFactsSchema = v.object({
  /** Lower-case, colon-separated; the one the machine booted from comes first. */
  macs: v.pipe(
    v.array(v.pipe(v.string(), v.regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/))),
    v.maxLength(MACS_MAX),
  ),
  /** SMBIOS system UUID, lower-case; absent when the firmware gives none or a placeholder. */
  uuid: v.optional(fact),
  systemSerial: v.optional(fact),
  boardSerial: v.optional(fact),
  manufacturer: v.optional(fact),
  product: v.optional(fact),
  memoryBytes: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
})

export type MachineFacts = v.InferOutput<typeof machineFactsSchema>

const PLACEHOLDER_WORDS = new Set([
  '',
  '0',
  'none',
  'n/a',
  'not specified',
  'not applicable',
  'default string',
  'system serial number',
  'to be filled by o.e.m.',
  '0123456789',
  '123456789',
  // UUIDs burnt into whole series of boards
  '03000200-0400-0500-0006-000700080009',
  '00020003-0004-0005-0006-000700080009',
  '12345678-1234-5678-90ab-cddeefaabbcc',
  'fefefefe-fefe-fefe-fefe-fefefefefefe',
])

/** Vendors ship boards with these instead of a serial number or UUID; they identify nobody. */
export function isPlaceholder(value: string): boolean {
  const word = value.trim().toLowerCase()
  if (PLACEHOLDER_WORDS.has(word)) return true
  const digits = word.replaceAll('-', '')
  return /^0+$/.test(digits) || /^f+$/.test(digits)
}
