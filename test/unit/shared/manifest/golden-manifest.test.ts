import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { InnerNode } from '#shared/manifest/inner-node.ts'
import { LeafNode } from '#shared/manifest/leaf-node.ts'
import { decodeVersionRoot, versionIdOf } from '#shared/manifest/version-root.ts'
import {
  INNER_HASHES,
  INNER_LEVEL,
  LEAF_BLOCKS,
  LEAF_EXTENTS,
  MANIFEST_VECTORS,
  ROOT,
} from './manifest-vectors.ts'

const FOLDER = new URL('../../../golden/manifest/', import.meta.url)

const golden = (name: string) => readFileSync(new URL(`${name}.bin`, FOLDER))

describe('golden bytes of the manifest', () => {
  for (const [name, bytes] of Object.entries(MANIFEST_VECTORS)) {
    it(`${name} is encoded to its file`, () => {
      assert.equal(Buffer.from(bytes).toString('hex'), golden(name).toString('hex'))
    })
  }

  it('there is no file without a vector', () => {
    const names = Object.keys(MANIFEST_VECTORS).map((name) => `${name}.bin`)
    assert.deepEqual(readdirSync(FOLDER).sort(), names.sort())
  })

  it('LeafNode.decode gives the extents of the file', () => {
    const leaf = LeafNode.decode(golden('leaf'), LEAF_BLOCKS)
    const extents = Array.from({ length: leaf.extentCount }, (_, at) => leaf.extent(at))
    const firstBlocks = extents.map(({ firstBlock }) => firstBlock)
    assert.deepEqual(firstBlocks, [0, 4, 5, 37, 137])
    const lengths = extents.map(({ blocks }) => blocks)
    assert.deepEqual(
      lengths,
      LEAF_EXTENTS.map(({ blocks }) => blocks),
    )
    for (const [index, { hash }] of LEAF_EXTENTS.entries()) {
      assert.deepEqual(extents[index]?.hash && Buffer.from(extents[index].hash), hash)
    }
    const indexes = [0, 3, 4, 5, 36, 37, 136, 137, 139].map((block) => leaf.indexAt(block))
    assert.deepEqual(indexes, [0, 0, 1, 2, 2, 3, 3, 4, 4])
  })

  it('InnerNode.decode gives the children of the file', () => {
    const node = InnerNode.decode(golden('inner'), INNER_LEVEL, INNER_HASHES.length)
    assert.deepEqual(Buffer.from(node.child(0) ?? []), INNER_HASHES[0])
    assert.equal(node.child(1), undefined)
    assert.deepEqual(Buffer.from(node.child(2) ?? []), INNER_HASHES[2])
  })

  it('decodeVersionRoot gives the root of the file, which names its version', () => {
    const root = decodeVersionRoot(golden('root'))
    assert.deepEqual({ ...root, rootHash: Buffer.from(root.rootHash) }, ROOT)
    const expected = '0b36ffb53155e987fff86a9f984853b6168adcd15c6ea6b84fc041e4db77a82b'
    assert.equal(versionIdOf(golden('root')), expected)
  })
})
