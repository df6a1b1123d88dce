/** What cannot be avoided of a boot: the parts of the image that it touches, compressed. */
import { closeSync, openSync, readSync } from 'node:fs'
import { constants, zstdCompressSync } from 'node:zlib'
import { KiB } from '#shared/units.ts'
import type { BootAccess } from './record-boot.ts'

const CHUNK_BYTES: number = 64 * KiB
const OPTIONS = { params: { [constants.ZSTD_c_compressionLevel]: 3 } }
const ZEROS = Buffer.alloc(CHUNK_BYTES)

/**
 * Bytes of the 64 KiB chunks, on that grid, of which a boot reads something, each compressed alone by
 * zstd 3. Zeros are nothing.
 */
export function touchedBytes(imagePath: string, accesses: readonly BootAccess[]): number {
  const touched = new Set<number>()
  for (const { op, offsetBytes, sizeBytes } of accesses) {
    if (op !== 'read') continue
    const end = Math.ceil((offsetBytes + sizeBytes) / CHUNK_BYTES)
    for (let at = Math.floor(offsetBytes / CHUNK_BYTES); at < end; at += 1) touched.add(at)
  }
  const file = openSync(imagePath, 'r')
  try {
    let sum = 0
    for (const at of touched) sum += compressedBytes(file, at)
    return sum
  } finally {
    closeSync(file)
  }
}

function compressedBytes(file: number, index: number): number {
  const chunk = Buffer.alloc(CHUNK_BYTES)
  const length = readSync(file, chunk, 0, CHUNK_BYTES, index * CHUNK_BYTES)
  const bytes = chunk.subarray(0, length)
  if (bytes.equals(ZEROS.subarray(0, length))) return 0
  return Math.min(length, zstdCompressSync(bytes, OPTIONS).length)
}
