/** Refuses exports that no client could use; a mistake in the program that serves them. */
import type { Export } from './block-device.ts'
import { STRING_BYTES_MAX } from './protocol.ts'

/** What the protocol allows for the minimum block size. */
const MINIMUM_BLOCK_BYTES_MAX = 64 * 1024
/** Each connection has buffers of this size; no client needs more. */
const MAXIMUM_BLOCK_BYTES_MAX = 64 * 1024 * 1024

/** @throws {RangeError} */
export function checkExport(it: Export): void {
  const { minimumBlockBytes: minimum, preferredBlockBytes: preferred } = it
  const { maximumBlockBytes: maximum, sizeBytes } = it
  need(Buffer.byteLength(it.name) <= STRING_BYTES_MAX, it, 'name', `${STRING_BYTES_MAX} bytes`)
  need(Buffer.byteLength(it.description) <= STRING_BYTES_MAX, it, 'description', '4096 bytes')
  need(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, it, 'sizeBytes', 'a whole number')
  need(isPowerOfTwo(minimum), it, 'minimumBlockBytes', 'a power of two')
  need(minimum <= MINIMUM_BLOCK_BYTES_MAX, it, 'minimumBlockBytes', 'at most 64 KiB')
  need(isPowerOfTwo(preferred), it, 'preferredBlockBytes', 'a power of two')
  need(
    preferred >= Math.max(512, minimum),
    it,
    'preferredBlockBytes',
    'at least 512 and the minimum',
  )
  need(maximum % minimum === 0, it, 'maximumBlockBytes', 'a multiple of the minimum')
  need(maximum >= preferred, it, 'maximumBlockBytes', 'at least the preferred size')
  need(maximum <= MAXIMUM_BLOCK_BYTES_MAX, it, 'maximumBlockBytes', 'at most 64 MiB')
  need(sizeBytes % minimum === 0, it, 'sizeBytes', 'a multiple of minimumBlockBytes')
}

type Checked =
  | 'name'
  | 'description'
  | 'sizeBytes'
  | `${'minimum' | 'preferred' | 'maximum'}BlockBytes`

function need(holds: boolean, it: Export, field: Checked, expected: string): void {
  if (holds) return
  const value = String(it[field]).slice(0, 80)
  throw new RangeError(`Cannot serve export: ${field} is ${value}, expected ${expected}`)
}

function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(Math.log2(value))
}
