/** Which chunks cover which bytes of a vDisk that is cut at fixed offsets. Pure arithmetic. */
import { invariant } from '#shared/invariant.ts'

export interface ChunkGrid {
  readonly sizeBytes: number
  /** A power of two. The last chunk may be shorter. */
  readonly chunkBytes: number
}

export function chunkCount(grid: ChunkGrid): number {
  return Math.ceil(grid.sizeBytes / grid.chunkBytes)
}

export function chunkOffset(grid: ChunkGrid, index: number): number {
  return index * grid.chunkBytes
}

export function chunkLength(grid: ChunkGrid, index: number): number {
  invariant(index >= 0 && index < chunkCount(grid), `chunk ${index} of ${chunkCount(grid)}`)
  return Math.min(grid.chunkBytes, grid.sizeBytes - chunkOffset(grid, index))
}

/** Returns the chunks that hold any byte of the range, as first index and index after the last. */
export function chunksOfRange(
  grid: ChunkGrid,
  offsetBytes: number,
  lengthBytes: number,
): { readonly first: number; readonly end: number } {
  invariant(
    offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= grid.sizeBytes,
    `range ${offsetBytes}+${lengthBytes} outside ${grid.sizeBytes} bytes`,
  )
  const first = Math.floor(offsetBytes / grid.chunkBytes)
  const end = lengthBytes === 0 ? first : Math.ceil((offsetBytes + lengthBytes) / grid.chunkBytes)
  return { first, end }
}
