/**
 * Ways to cut a run of data into chunks. A cutter returns the length of the next chunk; what is behind
 * it has no say, so chunks meet again behind a change.
 */
import { crc32 } from 'node:zlib'
import { KiB } from '#shared/units.ts'
import { BLOCK_BYTES } from './chunking-image.ts'

/** Length of the chunk that begins at `start`; `offsetBytes` is the place of the run in the image. */
export type Cut = (bytes: Uint8Array, start: number, offsetBytes: number) => number

/** What a client holds of a chunk in memory at once; a demand read waits for all of it. */
export const CHUNK_BYTES_MAX: number = 128 * KiB

const TWO_TO_32 = 2 ** 32

/** Chunks of one length that begin at multiples of it. */
export function fixedCut(chunkBytes: number): Cut {
  return (bytes, start, offsetBytes) =>
    Math.min(chunkBytes - ((offsetBytes + start) % chunkBytes), bytes.length - start)
}

export interface GridOptions {
  /** Whole blocks, as all lengths here. */
  readonly minBytes: number
  /** Of so many blocks one ends a chunk. */
  readonly oneIn: number
  /** As long as the chunk is shorter than this, only one of `oneIn` does. */
  readonly rarer?: { readonly untilBytes: number; readonly oneIn: number }
}

/** Cuts after a 4 KiB block whose checksum is small: chunks are whole blocks of the file system. */
export function gridCut({ minBytes, oneIn, rarer }: GridOptions): Cut {
  const rareBytes = rarer?.untilBytes ?? 0
  const rareLimit = TWO_TO_32 / (rarer?.oneIn ?? oneIn)
  const limit = TWO_TO_32 / oneIn
  return (bytes, start) => {
    const end = Math.min(start + CHUNK_BYTES_MAX, bytes.length)
    for (let at = start + minBytes - BLOCK_BYTES; at < end; at += BLOCK_BYTES) {
      const behind = at + BLOCK_BYTES
      const checksum = crc32(bytes.subarray(at, behind))
      if (checksum < (behind - start < rareBytes ? rareLimit : limit)) {
        return Math.min(behind, end) - start
      }
    }
    return end - start
  }
}

/** Bytes that a gear hash of 32 bits remembers. */
const GEAR_WINDOW = 32

/** Random numbers, always the same: of a linear congruential generator. */
export const GEAR: Int32Array = Int32Array.from({ length: 256 }, gearNumbers(0x2545f491))

function gearNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0
    const high = state >>> 16
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0
    return (high << 16) | (state >>> 16)
  }
}

/** How much rarer cuts are before the mean and more frequent behind it, as powers of two. */
const NORMALIZATION_BITS = 2

/** FastCDC: cuts anywhere, where a rolling hash of the bytes before is small. */
export function gearCut(meanBytes: number): Cut {
  const minBytes = meanBytes / 4
  const maxBytes = Math.min(meanBytes * 4, CHUNK_BYTES_MAX)
  const bits = Math.log2(meanBytes)
  // As many high bits must be zero; those have seen most of the bytes before.
  const shiftBefore = 32 - bits - NORMALIZATION_BITS
  const shiftBehind = 32 - bits + NORMALIZATION_BITS
  return (bytes, start) => {
    const end = Math.min(start + maxBytes, bytes.length)
    const mean = Math.min(start + meanBytes, end)
    let at = start + minBytes
    if (at >= end) return end - start
    let gear = 0
    for (let before = at - GEAR_WINDOW; before < at; before += 1) {
      gear = ((gear << 1) + (GEAR[bytes[before] ?? 0] ?? 0)) | 0
    }
    for (; at < mean; at += 1) {
      gear = ((gear << 1) + (GEAR[bytes[at] ?? 0] ?? 0)) | 0
      if (gear >>> shiftBefore === 0) return at + 1 - start
    }
    for (; at < end; at += 1) {
      gear = ((gear << 1) + (GEAR[bytes[at] ?? 0] ?? 0)) | 0
      if (gear >>> shiftBehind === 0) return at + 1 - start
    }
    return end - start
  }
}
