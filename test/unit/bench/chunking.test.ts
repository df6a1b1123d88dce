import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { invariant } from '#shared/invariant.ts'
import { KiB, MiB } from '#shared/units.ts'
import { CANDIDATES } from '#test/bench/chunking-candidates.ts'
import {
  type Chunk,
  chunkId,
  cutAsImport,
  cutImage,
  newChunks,
  touchedChunks,
} from '#test/bench/chunking-chunks.ts'
import { fixedCut, gearCut, gridCut } from '#test/bench/chunking-cutters.ts'
import { BaseIndex, decodeAll } from '#test/bench/chunking-delta.ts'
import type { DiskImage } from '#test/bench/chunking-image.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'

const SIZE_BYTES: number = 4 * MiB

/** Bytes that look random and are always the same. */
function noise(name: string, lengthBytes: number): Buffer {
  return createHash('shake256', { outputLength: lengthBytes }).update(name).digest()
}

function imageOf(bytes: Uint8Array): DiskImage {
  const runs = [{ offsetBytes: 0, bytes }]
  return { path: '', sizeBytes: bytes.length, dataBytes: bytes.length, runs }
}

/** The image with something in front of it. */
function moved(bytes: Uint8Array, by: number): DiskImage {
  return imageOf(Buffer.concat([noise('in front', by), bytes]))
}

const CONTENT = noise('content', SIZE_BYTES)
const GRID = gridCut({ minBytes: 8 * KiB, oneIn: 8 })

function shareOfNew(cut: typeof GRID, by: number): number {
  const before = cutImage(imageOf(CONTENT), cut).chunks
  const after = cutImage(moved(CONTENT, by), cut).chunks
  return newChunks(after, before).length / after.length
}

describe('gridCut()', () => {
  it('cuts the same chunks when content moves by whole blocks', () => {
    assert.ok(shareOfNew(GRID, 12 * KiB) < 0.1)
  })

  it('cuts whole blocks, none shorter than the least length but the last', () => {
    const { chunks } = cutImage(imageOf(CONTENT), GRID)
    for (const { bytes } of chunks.slice(0, -1)) {
      assert.equal(bytes.length % (4 * KiB), 0)
      assert.ok(bytes.length >= 8 * KiB)
      assert.ok(bytes.length <= 128 * KiB)
    }
  })
})

describe('gearCut()', () => {
  it('cuts the same chunks when content moves by single bytes', () => {
    assert.ok(shareOfNew(gearCut(16 * KiB), 1001) < 0.1)
  })

  it('has the mean it is asked for', () => {
    const { chunks } = cutImage(imageOf(CONTENT), gearCut(16 * KiB))
    const mean = SIZE_BYTES / chunks.length
    assert.ok(mean > 14 * KiB && mean < 23 * KiB, `mean ${mean}`)
  })
})

describe('fixedCut()', () => {
  it('cuts at multiples, whatever the run begins with', () => {
    const run = { offsetBytes: 60 * KiB, bytes: CONTENT.subarray(0, 100 * KiB) }
    const image = { path: '', sizeBytes: MiB, dataBytes: 100 * KiB, runs: [run] }
    const { chunks } = cutImage(image, fixedCut(64 * KiB))
    assert.deepEqual(
      chunks.map(({ offsetBytes }) => offsetBytes / KiB),
      [60, 64, 128],
    )
  })
})

describe('cutAsImport()', () => {
  it('cuts the chunks that a version of the image has, in the same places', () => {
    const image = Buffer.concat([CONTENT, Buffer.alloc(MiB), CONTENT.subarray(0, 300 * KiB)])
    const runs = [
      { offsetBytes: 0, bytes: CONTENT },
      { offsetBytes: SIZE_BYTES + MiB, bytes: CONTENT.subarray(0, 300 * KiB) },
    ]
    const dataBytes = SIZE_BYTES + 300 * KiB
    const { chunks } = cutAsImport({ path: '', sizeBytes: image.length, dataBytes, runs })
    assert.deepEqual(
      chunks.map(({ offsetBytes, bytes }) => [offsetBytes / (4 * KiB), bytes.length / (4 * KiB)]),
      new MemoryVersion(image).chunks.map(({ firstBlock, blocks }) => [firstBlock, blocks]),
    )
  })
})

describe('touchedChunks()', () => {
  it('names each chunk that a read overlaps, once', () => {
    const { chunks } = cutImage(imageOf(CONTENT), fixedCut(64 * KiB))
    const read = { atMs: 0, doneMs: 1, op: 'read', sizeBytes: 8 * KiB } as const
    const touched = touchedChunks(chunks, [
      { ...read, offsetBytes: 60 * KiB },
      { ...read, offsetBytes: 120 * KiB },
      { ...read, op: 'write', offsetBytes: 256 * KiB },
    ])
    assert.deepEqual(
      touched.map(({ offsetBytes }) => offsetBytes / KiB),
      [0, 64],
    )
  })
})

describe('BaseIndex', () => {
  const before = cutImage(imageOf(CONTENT), GRID).chunks
  /** Another byte here and there, which leaves most of each chunk as it is, and all moved. */
  const edited = Buffer.from(CONTENT)
  for (let at = 0; at < edited.length; at += 5000) edited[at] = (edited[at] ?? 0) ^ 1
  const fresh = newChunks(cutImage(moved(edited, 100 * KiB), GRID).chunks, before)

  it('finds bases of chunks that were changed and moved', () => {
    const deltas = new BaseIndex(before, 1).encodeAll(fresh)
    const bytes = (of: (delta: (typeof deltas)[number]) => number) =>
      deltas.reduce((sum, delta) => sum + of(delta), 0)
    const raw = bytes(({ chunk }) => chunk.bytes.length)
    assert.ok(bytes(({ encoded }) => encoded.length) < raw / 5)
    decodeAll(deltas)
  })

  it('is told by decodeAll() when a base is another one', () => {
    const [delta] = new BaseIndex(before, 0)
      .encodeAll(fresh)
      .filter(({ rule }) => rule !== undefined)
    invariant(delta !== undefined, 'there are differences')
    const bytes = noise('another', delta.bases[0]?.bytes.length ?? 0)
    const other: Chunk = { offsetBytes: 0, bytes, id: chunkId(bytes) }
    assert.throws(() => decodeAll([{ ...delta, bases: [other] }]))
  })
})

describe('CANDIDATES', () => {
  it('have names of their own', () => {
    assert.equal(new Set(CANDIDATES.map(({ name }) => name)).size, CANDIDATES.length)
  })
})
