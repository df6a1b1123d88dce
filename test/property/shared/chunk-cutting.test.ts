import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { type CutExtent, cutSpan, EVEN_GRID } from '#shared/chunk/chunk-cutting.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'

const { minBlocks, maxBlocks, rareUntilBlocks, rareOneIn, oneIn, zeroRunBlocks } = EVEN_GRID

/** Runs of blocks, each zero or with a content of its own. */
const runs = fc.array(
  fc.record({
    isZero: fc.boolean(),
    blocks: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 80 })),
    seed: fc.nat(),
  }),
  { minLength: 1, maxLength: 12 },
)
/** Bytes that the last block lacks. */
const missing = fc.oneof(fc.constant(0), fc.nat(BLOCK_BYTES - 1))

const span = fc.tuple(runs, missing).map(([runs, missing]) => {
  const pieces = runs.map(({ isZero, blocks, seed }) =>
    isZero ? new Uint8Array(blocks * BLOCK_BYTES) : randomBlocks(seed, blocks),
  )
  const bytes = new Uint8Array(Buffer.concat(pieces))
  return bytes.subarray(0, bytes.length - missing)
})

describe('cutSpan', () => {
  it('covers the span exactly, in order', () => {
    fc.assert(
      fc.property(span, (bytes) => {
        let next = 0
        for (const { firstBlock, blocks } of cutSpan(bytes, EVEN_GRID)) {
          assert.equal(firstBlock, next)
          assert.ok(blocks > 0)
          next += blocks
        }
        assert.equal(next, Math.ceil(bytes.length / BLOCK_BYTES))
      }),
    )
  })

  it('leaves out runs of zeros that are long enough or touch an end, whole, and no others', () => {
    fc.assert(
      fc.property(span, (bytes) => {
        assert.deepEqual(
          cutSpan(bytes, EVEN_GRID)
            .filter(({ isZero }) => isZero)
            .map(({ firstBlock, blocks }) => [firstBlock, blocks]),
          zeroRuns(bytes),
        )
      }),
    )
  })

  it('cuts behind the first block that says so, within the limits', () => {
    fc.assert(
      fc.property(span, (bytes) => {
        const extents = cutSpan(bytes, EVEN_GRID)
        for (const [index, extent] of extents.entries()) {
          if (extent.isZero) continue
          const { firstBlock, blocks } = extent
          assert.ok(blocks <= maxBlocks)
          const mayEnd = (length: number) => endsChunk(bytes, firstBlock, length)
          for (let length = minBlocks; length < blocks; length += 1) assert.ok(!mayEnd(length))
          const next: CutExtent | undefined = extents[index + 1]
          if (next !== undefined && !next.isZero) assert.ok(blocks === maxBlocks || mayEnd(blocks))
        }
      }),
    )
  })

  it('cuts data the same way again behind blocks that were inserted', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 100 }), (seed, inserted) => {
        const data = randomBlocks(seed, 1000)
        const moved = Buffer.concat([randomBlocks(seed + 1, inserted), data])
        const cuts = chunkEnds(data).filter((end) => end > 500)
        const movedCuts = chunkEnds(moved).map((end) => end - inserted)
        assert.ok(cuts.length > 10)
        assert.deepEqual(
          movedCuts.filter((end) => end > 500),
          cuts,
        )
      }),
      { numRuns: 20 },
    )
  })

  it('cuts chunks of 36 KiB on average out of data that is all different', () => {
    const ends = chunkEnds(randomBlocks(1, 4096))
    const meanKiB = (4096 * 4) / ends.length
    assert.ok(meanKiB > 33 && meanKiB < 39, `${meanKiB} KiB`)
  })
})

function endsChunk(bytes: Uint8Array, firstBlock: number, length: number): boolean {
  const last = firstBlock + length - 1
  const block = bytes.subarray(last * BLOCK_BYTES, (last + 1) * BLOCK_BYTES)
  return crc32(block) < 2 ** 32 / (length < rareUntilBlocks ? rareOneIn : oneIn)
}

function chunkEnds(bytes: Uint8Array): number[] {
  const chunks = cutSpan(bytes, EVEN_GRID).filter(({ isZero }) => !isZero)
  return chunks.map(({ firstBlock, blocks }) => firstBlock + blocks)
}

/** First block and length of each run of zeros that is not stored. */
function zeroRuns(bytes: Uint8Array): number[][] {
  const blocks = Math.ceil(bytes.length / BLOCK_BYTES)
  const isZero = Array.from({ length: blocks }, (_, block) =>
    bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES).every((byte) => byte === 0),
  )
  const runs: number[][] = []
  for (let block = 0; block < blocks; ) {
    let end = block
    while (isZero[end] === true) end += 1
    const touches = block === 0 || end === blocks
    if (end > block && (touches || end - block >= zeroRunBlocks)) runs.push([block, end - block])
    block = Math.max(end, block + 1)
  }
  return runs
}

function randomBlocks(seed: number, blocks: number): Uint8Array {
  const words = new Uint32Array((blocks * BLOCK_BYTES) / 4)
  let state = (Math.imul(seed, 2_654_435_761) + 1) >>> 0
  for (let at = 0; at < words.length; at += 1) {
    state = (state ^ (state << 13)) >>> 0
    state = (state ^ (state >>> 17)) >>> 0
    state = (state ^ (state << 5)) >>> 0
    words[at] = state
  }
  return new Uint8Array(words.buffer)
}
