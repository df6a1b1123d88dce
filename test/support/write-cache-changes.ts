/** A stream of changes of a write cache that follows from a seed, and what each makes of the bytes. */
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import type { WriteCache } from '#agent/block/write-cache.ts'
import { seededRandom } from './seeded-random.ts'

export interface CacheChange {
  readonly kind: 'write' | 'trim' | 'zero'
  readonly offsetBytes: number
  readonly lengthBytes: number
  readonly fill: number
}

/** Most sectors of one change: several blocks, beginning and ending anywhere. */
const SECTORS_MAX = 96

/** Bytes that are written are this or larger, and so never zero or the base's. */
export const WRITTEN_FROM = 16
export const BASE_FILL = 7

/** Changes without end. */
export function* changesOf(seed: number, sizeBytes: number): Generator<CacheChange> {
  const random = randomOf(seed)
  const sectors = sizeBytes / SECTOR_BYTES
  for (let count = 0; ; count += 1) {
    const first = random() % sectors
    const length = Math.min(1 + (random() % SECTORS_MAX), sectors - first)
    const kind = random() % 8
    yield {
      kind: kind === 0 ? 'trim' : kind === 1 ? 'zero' : 'write',
      offsetBytes: first * SECTOR_BYTES,
      lengthBytes: length * SECTOR_BYTES,
      fill: WRITTEN_FROM + (count % (256 - WRITTEN_FROM)),
    }
  }
}

/** Makes the change, and gives the slots it frees back, as a device with one reader does. */
export function applyChange(cache: WriteCache, change: CacheChange): void {
  const { kind, offsetBytes, lengthBytes, fill } = change
  if (kind === 'write') {
    cache.write(offsetBytes, Buffer.alloc(lengthBytes, fill), false)
    return
  }
  const pending =
    kind === 'trim'
      ? cache.trim(offsetBytes, lengthBytes, false)
      : cache.writeZeroes(offsetBytes, lengthBytes, false)
  if (pending) cache.releaseZeroed(offsetBytes, lengthBytes, cache.drops)
}

/** Numbers of 31 bits; the same for the same seed. */
function randomOf(seed: number): () => number {
  const random = seededRandom(seed)
  return () => Math.floor(random() * 2 ** 31)
}
