import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { contentHash, isZeroHash, ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { encodeInner, InnerNode } from '#shared/manifest/inner-node.ts'
import { encodeLeaf, LEAF_BYTES_MAX, LeafNode } from '#shared/manifest/leaf-node.ts'
import { SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { INNER_HASHES, LEAF_BLOCKS, LEAF_EXTENTS } from './manifest-vectors.ts'

const invalid = (message: RegExp) => ({ code: 'MANIFEST_INVALID', message })

const hash = contentHash(Buffer.from('x'))
const leaf = encodeLeaf(LEAF_EXTENTS)
const inner = encodeInner(2, INNER_HASHES)

/** A leaf with these words for extents and this many hashes behind them. */
function leafOf(words: readonly number[], hashes: number): Uint8Array {
  const bytes = Buffer.alloc(4 + 2 * words.length + 32 * hashes)
  bytes.writeUInt16BE(0x0100, 0)
  bytes.writeUInt16BE(words.length, 2)
  for (const [at, word] of words.entries()) bytes.writeUInt16BE(word, 4 + 2 * at)
  return bytes
}

describe('LeafNode.decode', () => {
  it('refuses what is cut off or too long', () => {
    for (let length = 0; length < leaf.length; length += 1) {
      assert.throws(() => LeafNode.decode(leaf.subarray(0, length), LEAF_BLOCKS), invalid(/it/))
    }
    const longer = Buffer.concat([leaf, Buffer.of(0)])
    assert.throws(() => LeafNode.decode(longer, LEAF_BLOCKS), invalid(/bytes for 3 chunks/))
  })

  it('refuses blocks that are too few or too many for its place', () => {
    const fewer = invalid(/it covers 140 blocks, expected 141/)
    assert.throws(() => LeafNode.decode(leaf, LEAF_BLOCKS + 1), fewer)
    const more = invalid(/it covers more than 139 blocks/)
    assert.throws(() => LeafNode.decode(leaf, LEAF_BLOCKS - 1), more)
  })

  it('refuses extents that no encoder makes', () => {
    const data = 0x8000
    assert.throws(() => LeafNode.decode(leafOf([data], 1), 0), invalid(/has no blocks/))
    assert.throws(() => LeafNode.decode(leafOf([0, data | 1], 1), 1), invalid(/has no blocks/))
    assert.throws(() => LeafNode.decode(leafOf([data | 33], 1), 33), invalid(/a chunk has 33 blo/))
    assert.throws(() => LeafNode.decode(leafOf([1, 2], 0), 3), invalid(/zeros follow zeros/))
    assert.throws(() => LeafNode.decode(leafOf([], 0), 1), invalid(/it covers 0 blocks/))
    assert.throws(() => LeafNode.decode(leaf.with(0, 2), LEAF_BLOCKS), invalid(/it is no leaf/))
    assert.throws(() => LeafNode.decode(leaf.with(1, 1), LEAF_BLOCKS), invalid(/it is no leaf/))
  })

  it('takes the largest leaf there is: a chunk for every block', () => {
    const largest = encodeLeaf(Array.from({ length: SPAN_BLOCKS }, () => ({ blocks: 1, hash })))
    assert.equal(largest.length, LEAF_BYTES_MAX)
    const node = LeafNode.decode(largest, SPAN_BLOCKS)
    assert.equal(node.extentCount, SPAN_BLOCKS)
    assert.deepEqual(node.indexAt(4095), 4095)
  })
})

describe('InnerNode.decode', () => {
  it('refuses another length, level or number of children than its place says', () => {
    for (let length = 0; length < inner.length; length += 1) {
      const cut = inner.subarray(0, length)
      assert.throws(() => InnerNode.decode(cut, 2, 3), invalid(/bytes, expected 100/))
    }
    assert.throws(() => InnerNode.decode(inner, 3, 3), invalid(/it is not of level 3/))
    assert.throws(() => InnerNode.decode(inner.with(1, 1), 2, 3), invalid(/it is not of level 2/))
    assert.throws(() => InnerNode.decode(inner, 2, 2), invalid(/bytes, expected 68/))
    assert.throws(() => InnerNode.decode(inner.with(3, 2), 2, 3), invalid(/with 3 children/))
  })
})

describe('isZeroHash', () => {
  it('is true for the hash that stands for zeros alone', () => {
    assert.equal(isZeroHash(ZERO_HASH), true)
    assert.equal(isZeroHash(ZERO_HASH.with(31, 1)), false)
  })
})
