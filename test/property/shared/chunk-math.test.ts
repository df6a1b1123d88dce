import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  type ChunkGrid,
  chunkCount,
  chunkLength,
  chunkOffset,
  chunksOfRange,
} from '#shared/chunk/chunk-math.ts'

const TiB = 2 ** 40

const chunkBytes = fc.integer({ min: 12, max: 17 }).map((power) => 2 ** power)
const sizeBytes = fc.oneof(
  fc.nat(1_000_000),
  fc.maxSafeNat().map((size) => size % (8 * TiB)),
  fc.constantFrom(0, 1, 4096, 8 * TiB, 8 * TiB - 1, 8 * TiB - 512),
)
const grid: fc.Arbitrary<ChunkGrid> = fc.record({ sizeBytes, chunkBytes })

const gridWithRange = grid.chain((grid) =>
  fc.tuple(fc.maxSafeNat(), fc.oneof(fc.nat(1_000_000), fc.maxSafeNat())).map(([at, length]) => {
    const offset = grid.sizeBytes === 0 ? 0 : at % (grid.sizeBytes + 1)
    return { grid, offset, length: Math.min(length, grid.sizeBytes - offset) }
  }),
)

describe('chunk-math', () => {
  it('chunks lie behind each other without gaps, and end with the vDisk', () => {
    fc.assert(
      fc.property(grid, fc.double({ min: 0, max: 1, noNaN: true }), (grid, part) => {
        const count = chunkCount(grid)
        if (count === 0) {
          assert.equal(grid.sizeBytes, 0)
          return
        }
        const index = Math.min(count - 1, Math.floor(part * count))
        const end = chunkOffset(grid, index) + chunkLength(grid, index)
        assert.ok(chunkLength(grid, index) > 0)
        assert.equal(end, index === count - 1 ? grid.sizeBytes : chunkOffset(grid, index + 1))
        assert.equal(chunkOffset(grid, 0), 0)
      }),
    )
  })

  it('chunksOfRange has every chunk that has a byte of the range, and no other', () => {
    fc.assert(
      fc.property(gridWithRange, ({ grid, offset, length }) => {
        const { first, end } = chunksOfRange(grid, offset, length)
        if (length === 0) {
          assert.equal(first, end)
          return
        }
        assert.ok(chunkOffset(grid, first) <= offset)
        assert.ok(offset < chunkOffset(grid, first) + chunkLength(grid, first))
        const last = offset + length - 1
        assert.ok(chunkOffset(grid, end - 1) <= last)
        assert.ok(last < chunkOffset(grid, end - 1) + chunkLength(grid, end - 1))
      }),
    )
  })

  it('what lies outside breaks an invariant', () => {
    const grid = { sizeBytes: 10_000, chunkBytes: 4096 }
    assert.equal(chunkLength(grid, 2), 10_000 - 8192)
    for (const index of [-1, 3, Number.NaN])
      assert.throws(() => chunkLength(grid, index), /Invariant/)
    for (const [offset, length] of [
      [-1, 1],
      [0, -1],
      [0, 10_001],
      [10_000, 1],
      [Number.NaN, 1],
    ] as const) {
      assert.throws(() => chunksOfRange(grid, offset, length), /Invariant/)
    }
  })
})
