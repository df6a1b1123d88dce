/** Nodes are decoded to what was encoded; whatever else comes is MANIFEST_INVALID, or a node. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { BootwireError } from '#shared/errors.ts'
import { encodeInner, InnerNode } from '#shared/manifest/inner-node.ts'
import { encodeLeaf, LeafNode } from '#shared/manifest/leaf-node.ts'
import {
  BLOCK_BYTES,
  blocksUnder,
  bytesOfBlocks,
  childCount,
  FAN_OUT,
  LEVEL_MAX,
  leafBlocks,
  nodeOver,
  nodesAt,
  SPAN_BLOCKS,
  treeLevels,
  VDISK_BLOCKS_MAX,
  vdiskBlocks,
} from '#shared/manifest/tree-shape.ts'
import { decodeVersionRoot, encodeVersionRoot } from '#shared/manifest/version-root.ts'

const hash = fc.uint8Array({ minLength: 32, maxLength: 32 })
const u8 = fc.nat(255)

/** Extents of a leaf: no zeros behind zeros. */
const extents = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 32 }), fc.option(hash)), {
    minLength: 1,
    maxLength: 60,
  })
  .map((extents) =>
    withoutZeroPairs(
      extents.map(([blocks, hash]) => (hash === null ? { blocks } : { blocks, hash })),
    ),
  )

const sizeBytes = fc.oneof(
  fc.integer({ min: 1, max: 64 * 1024 * 1024 }),
  fc.integer({ min: 1, max: VDISK_BLOCKS_MAX }).map((blocks) => blocks * BLOCK_BYTES),
)

function withoutZeroPairs<E extends { readonly hash?: Uint8Array }>(extents: readonly E[]): E[] {
  return extents.filter(
    ({ hash }, at) => hash !== undefined || extents[at - 1]?.hash !== undefined || at === 0,
  )
}

function nodeOrInvalid(decode: () => unknown): boolean {
  try {
    decode()
    return true
  } catch (error) {
    assert.ok(error instanceof BootwireError && error.code === 'MANIFEST_INVALID', String(error))
    return false
  }
}

describe('manifest', () => {
  it('a leaf is decoded to its extents, and every block is found in its extent', () => {
    fc.assert(
      fc.property(extents, (extents) => {
        const total = extents.reduce((sum, { blocks }) => sum + blocks, 0)
        const leaf = LeafNode.decode(encodeLeaf(extents), total)
        let block = 0
        for (const [index, { blocks, hash }] of extents.entries()) {
          const extent = leaf.extent(index)
          assert.deepEqual([extent.firstBlock, extent.blocks], [block, blocks])
          assert.deepEqual(extent.hash && Uint8Array.from(extent.hash), hash)
          for (const at of [block, block + blocks - 1]) assert.equal(leaf.indexAt(at), index)
          block += blocks
        }
      }),
    )
  })

  it('an inner node is decoded to its hashes', () => {
    const node = fc.tuple(
      fc.integer({ min: 2, max: LEVEL_MAX }),
      fc.array(hash, { minLength: 1, maxLength: FAN_OUT }),
    )
    fc.assert(
      fc.property(node, ([level, hashes]) => {
        const inner = InnerNode.decode(encodeInner(level, hashes), level, hashes.length)
        for (const [index, hash] of hashes.entries()) {
          assert.deepEqual(Uint8Array.from(inner.child(index) ?? new Uint8Array(32)), hash)
        }
      }),
    )
  })

  it('a root record is decoded to what was encoded', () => {
    const cut = fc.record({
      minBlocks: u8,
      rareUntilBlocks: u8,
      rareOneIn: u8,
      oneIn: u8,
      maxBlocks: u8,
      zeroRunBlocks: u8,
    })
    fc.assert(
      fc.property(fc.record({ sizeBytes, cut, rootHash: hash }), (root) => {
        assert.deepEqual(decodeVersionRoot(encodeVersionRoot(root)), structuredClone(root))
      }),
    )
  })

  it('any bytes are a node, or MANIFEST_INVALID', () => {
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 200 }), damaged())
    fc.assert(
      fc.property(bytes, fc.nat(4096), fc.nat(300), (bytes, blocks, children) => {
        nodeOrInvalid(() => LeafNode.decode(bytes, blocks))
        nodeOrInvalid(() => InnerNode.decode(bytes, 2, children))
        nodeOrInvalid(() => decodeVersionRoot(bytes))
      }),
      { numRuns: 1000 },
    )
  })

  it('a leaf that is decoded is encoded to the same bytes: one content has one encoding', () => {
    fc.assert(
      fc.property(damaged(), fc.nat(200), (bytes, blocks) => {
        if (!nodeOrInvalid(() => LeafNode.decode(bytes, blocks))) return
        const leaf = LeafNode.decode(bytes, blocks)
        const extents = Array.from({ length: leaf.extentCount }, (_, at) => leaf.extent(at))
        assert.deepEqual(Buffer.from(encodeLeaf(extents)), Buffer.from(bytes))
      }),
      { numRuns: 1000 },
    )
  })
})

/** A leaf with a few bytes changed. */
function damaged(): fc.Arbitrary<Uint8Array> {
  const changes = fc.array(fc.record({ at: fc.nat(), byte: u8 }), { maxLength: 3 })
  return fc.tuple(extents, changes).map(([extents, changes]) => {
    const bytes = encodeLeaf(extents)
    for (const { at, byte } of changes) bytes[at % bytes.length] = byte
    return bytes
  })
}

describe('tree shape', () => {
  it('every node is the child of one node above it, up to one root', () => {
    fc.assert(
      fc.property(sizeBytes, fc.double({ min: 0, max: 1, noNaN: true }), (sizeBytes, where) => {
        const levels = treeLevels(sizeBytes)
        assert.ok(levels >= 1 && levels <= LEVEL_MAX)
        assert.equal(nodesAt(sizeBytes, levels), 1)
        const block = Math.floor(where * (vdiskBlocks(sizeBytes) - 1))
        for (let level = 2; level <= levels; level += 1) {
          const [parent, child] = [nodeOver(block, level), nodeOver(block, level - 1)]
          assert.equal(Math.floor(child / FAN_OUT), parent)
          assert.ok(child % FAN_OUT < childCount(sizeBytes, level, parent))
          assert.equal(blocksUnder(level), blocksUnder(level - 1) * FAN_OUT)
        }
      }),
    )
  })

  it('children of a level add up to the level below, blocks of leaves to the vDisk', () => {
    const small = fc.integer({ min: 1, max: 40 * 1024 ** 3 })
    fc.assert(
      fc.property(small, (sizeBytes) => {
        for (let level = 2; level <= treeLevels(sizeBytes); level += 1) {
          let children = 0
          for (let at = 0; at < nodesAt(sizeBytes, level); at += 1) {
            children += childCount(sizeBytes, level, at)
          }
          assert.equal(children, nodesAt(sizeBytes, level - 1))
        }
        const last = nodesAt(sizeBytes, 1) - 1
        assert.equal(last * SPAN_BLOCKS + leafBlocks(sizeBytes, last), vdiskBlocks(sizeBytes))
        const blocks = vdiskBlocks(sizeBytes)
        assert.equal(bytesOfBlocks(sizeBytes, 0, blocks), sizeBytes)
      }),
      { numRuns: 50 },
    )
  })
})
