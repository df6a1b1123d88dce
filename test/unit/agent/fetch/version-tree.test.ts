import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { VersionTree } from '#agent/fetch/version-tree.ts'
import { contentHash, ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { encodeInner } from '#shared/manifest/inner-node.ts'
import { encodeLeaf } from '#shared/manifest/leaf-node.ts'
import { BLOCK_BYTES, FAN_OUT, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'
import { imageOfSpans } from './fetch-fixture.ts'

const version = new MemoryVersion(imageOfSpans())
const INVALID = { code: 'MANIFEST_INVALID' }

function node(level: number, position: number): Uint8Array {
  return version.node(level, position) ?? assert.fail(`no node ${level}/${position}`)
}

/** A tree that has all nodes but those of the zeros. */
function fullTree(leafMemoryBytesMax?: number): VersionTree {
  const tree = new VersionTree(version.root, leafMemoryBytesMax)
  tree.accept(2, 0, node(2, 0))
  for (const leaf of [0, 1, 3]) tree.accept(1, leaf, node(1, leaf))
  return tree
}

describe('VersionTree', () => {
  it('find says which node is missing, the topmost first', () => {
    const tree = new VersionTree(version.root)
    assert.deepEqual(tree.find(5), {
      kind: 'unknown',
      level: 2,
      position: 0,
      hash: version.root.rootHash,
    })
    tree.accept(2, 0, node(2, 0))
    const hash = Buffer.from(contentHash(node(1, 1)))
    const unknown = tree.find(SPAN_BLOCKS)
    assert.ok(unknown.kind === 'unknown')
    assert.deepEqual([unknown.level, unknown.position], [1, 1])
    assert.ok(hash.equals(unknown.hash))
  })

  it('find gives each block the chunk or the zeros it is part of', () => {
    const tree = fullTree()
    for (let block = 0; block < tree.blocks; block += 1) {
      const place = tree.find(block)
      const chunk = version.chunkAt(block)
      if (chunk === undefined) assert.equal(place.kind, 'zeros')
      else {
        assert.ok(place.kind === 'chunk')
        assert.deepEqual([place.firstBlock, place.blocks], [chunk.firstBlock, chunk.blocks])
        assert.ok(Buffer.compare(place.hash, chunk.hash) === 0)
      }
    }
  })

  it('find knows zeros below a node that is zero without any node', () => {
    const tree = new VersionTree(version.root)
    tree.accept(2, 0, node(2, 0))
    const zeros = { kind: 'zeros', firstBlock: 2 * SPAN_BLOCKS, blocks: SPAN_BLOCKS }
    assert.deepEqual(tree.find(2 * SPAN_BLOCKS + 7), zeros)
    assert.equal(tree.hashOf(1, 2), 'zeros')
    const empty = new VersionTree({ sizeBytes: 100e9, rootHash: ZERO_HASH })
    assert.deepEqual(empty.find(1e6), { kind: 'zeros', firstBlock: 0, blocks: empty.blocks })
  })

  it('MANIFEST_INVALID: a node of another hash, of another place, cut off, or longer', () => {
    const tree = new VersionTree(version.root)
    assert.throws(() => tree.accept(2, 0, node(1, 0)), INVALID)
    assert.throws(() => tree.accept(2, 0, node(2, 0).subarray(1)), INVALID)
    assert.throws(() => tree.accept(2, 0, Buffer.concat([node(2, 0), Buffer.of(0)])), INVALID)
    // Its parent is not here, so nothing proves it.
    assert.throws(() => tree.accept(1, 0, node(1, 0)), INVALID)
    tree.accept(2, 0, node(2, 0))
    assert.throws(() => tree.accept(1, 0, node(1, 1)), INVALID)
    assert.throws(() => tree.accept(1, 2, node(1, 1)), INVALID)
    assert.throws(() => tree.accept(1, 4, node(1, 1)), INVALID)
    assert.throws(() => tree.accept(3, 0, node(2, 0)), INVALID)
    assert.ok(!tree.has(1, 0))
    tree.accept(1, 0, node(1, 0))
    assert.ok(tree.has(1, 0))
  })

  it('MANIFEST_INVALID: a signed tree that is nonsense: loops, wrong levels, absurd sizes', () => {
    const sizeBytes = FAN_OUT * SPAN_BLOCKS * BLOCK_BYTES
    const nonsense: [string, Uint8Array][] = [
      ['a leaf in place of the root', encodeLeaf([{ blocks: SPAN_BLOCKS }])],
      [
        'another level',
        encodeInner(
          3,
          Array.from({ length: FAN_OUT }, () => ZERO_HASH),
        ),
      ],
      ['too few children', encodeInner(2, [ZERO_HASH])],
      [
        'too many children',
        encodeInner(
          2,
          Array.from({ length: FAN_OUT + 1 }, () => ZERO_HASH),
        ),
      ],
      ['nothing', new Uint8Array(0)],
    ]
    for (const [name, bytes] of nonsense) {
      const tree = new VersionTree({ sizeBytes, rootHash: contentHash(bytes) })
      assert.throws(() => tree.accept(2, 0, bytes), INVALID, name)
      assert.equal(tree.find(0).kind, 'unknown', name)
    }
    // A leaf that covers more or less than its span; an inner node that names itself has no end, but
    // a node is only ever taken for the level it is asked for as.
    const hash = contentHash(Buffer.of(1))
    for (const leaf of [
      encodeLeaf([{ blocks: SPAN_BLOCKS + 1 }]),
      encodeLeaf([{ blocks: 8, hash }]),
      encodeLeaf([{ blocks: 33, hash }, { blocks: SPAN_BLOCKS - 33 }]),
      encodeLeaf([{ blocks: 1 }, { blocks: SPAN_BLOCKS - 1 }]),
    ]) {
      const tree = new VersionTree({
        sizeBytes: SPAN_BLOCKS * BLOCK_BYTES,
        rootHash: contentHash(leaf),
      })
      assert.throws(() => tree.accept(1, 0, leaf), INVALID)
    }
    const self = encodeInner(
      2,
      Array.from({ length: FAN_OUT }, () => hash),
    )
    const tree = new VersionTree({ sizeBytes, rootHash: contentHash(self) })
    tree.accept(2, 0, self)
    assert.throws(() => tree.accept(1, 0, self), INVALID)
  })

  it('keeps the leaves used last within its memory, and inner nodes always', () => {
    // With half of what their objects take, so that one is too many.
    const leafBytes = [0, 1, 3].reduce((sum, leaf) => sum + node(1, leaf).length, 700)
    const tree = fullTree(leafBytes)
    assert.ok(tree.has(2, 0))
    assert.ok(!tree.has(1, 0))
    assert.equal(tree.find(0).kind, 'unknown')
    tree.find(SPAN_BLOCKS)
    tree.accept(1, 0, node(1, 0))
    assert.ok(tree.has(1, 0) && tree.has(1, 1) && !tree.has(1, 3))
    // One that is larger than all there is stays while it is the last.
    const tiny = fullTree(1)
    assert.ok(tiny.has(1, 3))
    assert.ok(!tiny.has(1, 1))
  })
})
