/** An image cut into chunks, each with the hash of its content, and what cutting and hashing cost. */
import { hash } from 'node:crypto'
import { cutSpan, EVEN_GRID } from '#shared/chunk/chunk-cutting.ts'
import { invariant } from '#shared/invariant.ts'
import { SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import type { Cut } from './chunking-cutters.ts'
import { BLOCK_BYTES, type DiskImage, readImage, viewImage } from './chunking-image.ts'
import type { BootAccess } from './record-boot.ts'

export interface Chunk {
  readonly offsetBytes: number
  readonly bytes: Uint8Array
  readonly id: string
}

export interface Chunked {
  /** In the order of the image. */
  readonly chunks: readonly Chunk[]
  readonly cpuSeconds: number
}

export function cutImage(image: DiskImage, cut: Cut): Chunked {
  const chunks: Chunk[] = []
  const cpuSeconds = cpuSecondsOf(() => {
    for (const { bytes, offsetBytes } of image.runs) {
      for (let start = 0; start < bytes.length; ) {
        const length = cut(bytes, start, offsetBytes)
        const chunk = bytes.subarray(start, start + length)
        chunks.push({ offsetBytes: offsetBytes + start, bytes: chunk, id: chunkId(chunk) })
        start += length
      }
    }
  })
  const cutBytes = chunks.reduce((sum, { bytes }) => sum + bytes.length, 0)
  invariant(cutBytes === image.dataBytes, 'chunks are all of the data, and nothing twice')
  return { chunks, cpuSeconds }
}

/** As an import cuts it (shared/chunk/chunk-cutting.ts). */
export function cutAsImport(image: DiskImage): Chunked {
  const chunks: Chunk[] = []
  let cpuSeconds = 0
  const spanBytes = SPAN_BLOCKS * BLOCK_BYTES
  for (let begin = 0; begin < image.sizeBytes; begin += spanBytes) {
    const span = readImage(image, begin, Math.min(spanBytes, image.sizeBytes - begin))
    cpuSeconds += cpuSecondsOf(() => {
      for (const { firstBlock, blocks, isZero } of cutSpan(span, EVEN_GRID)) {
        if (isZero) continue
        const offsetBytes = begin + firstBlock * BLOCK_BYTES
        const bytes = viewImage(image, offsetBytes, blocks * BLOCK_BYTES)
        chunks.push({ offsetBytes, bytes, id: chunkId(bytes) })
      }
    })
  }
  return { chunks, cpuSeconds }
}

export function chunkId(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'base64url')
}

/** CPU time of this process, which runs nothing else meanwhile. */
export function cpuSecondsOf(work: () => void): number {
  const before = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1e6
}

/** Chunks whose content the other image does not have, each once. */
export function newChunks(chunks: readonly Chunk[], known: readonly Chunk[]): Chunk[] {
  const seen = new Set(known.map(({ id }) => id))
  return chunks.filter(({ id }) => {
    if (seen.has(id)) return false
    seen.add(id)
    return true
  })
}

/** Chunks of which a boot read something, each content once, in the order of the image. */
export function touchedChunks(chunks: readonly Chunk[], accesses: readonly BootAccess[]): Chunk[] {
  const touched = new Map<string, Chunk>()
  for (const { op, offsetBytes, sizeBytes } of accesses) {
    if (op !== 'read') continue
    for (let index = firstChunkAfter(chunks, offsetBytes); index < chunks.length; index += 1) {
      const chunk = chunks[index]
      if (chunk === undefined || chunk.offsetBytes >= offsetBytes + sizeBytes) break
      touched.set(chunk.id, chunk)
    }
  }
  return [...touched.values()].sort((a, b) => a.offsetBytes - b.offsetBytes)
}

/** Index of the first chunk that ends behind the offset. */
export function firstChunkAfter(chunks: readonly Chunk[], offsetBytes: number): number {
  let [low, high] = [0, chunks.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    const chunk = chunks[middle]
    if (chunk !== undefined && chunk.offsetBytes + chunk.bytes.length <= offsetBytes) {
      low = middle + 1
    } else high = middle
  }
  return low
}
