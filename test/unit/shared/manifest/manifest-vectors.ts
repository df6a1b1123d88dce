/**
 * What each file of test/golden/manifest says. Nodes are what versions are named by: none may change
 * while the format is `bwroot01`.
 */
import { contentHash, ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { encodeInner } from '#shared/manifest/inner-node.ts'
import { type Extent, encodeLeaf } from '#shared/manifest/leaf-node.ts'
import { encodeVersionRoot, type VersionRoot } from '#shared/manifest/version-root.ts'

const hashOf = (text: string) => contentHash(Buffer.from(text))

/** Covers 140 blocks. */
export const LEAF_EXTENTS: readonly Omit<Extent, 'firstBlock'>[] = [
  { blocks: 4 },
  { blocks: 1, hash: hashOf('a') },
  { blocks: 32, hash: hashOf('b') },
  { blocks: 100 },
  { blocks: 3, hash: hashOf('a') },
]
export const LEAF_BLOCKS = 140

export const INNER_LEVEL = 2
export const INNER_HASHES: readonly Uint8Array[] = [hashOf('c'), ZERO_HASH, hashOf('d')]

export const ROOT: VersionRoot = {
  sizeBytes: 0x0123_4567_8000,
  // Whatever is used today.
  cut: {
    minBlocks: 4,
    rareUntilBlocks: 8,
    rareOneIn: 24,
    oneIn: 3,
    maxBlocks: 32,
    zeroRunBlocks: 4,
  },
  rootHash: hashOf('e'),
}

export const MANIFEST_VECTORS: Readonly<Record<string, Uint8Array>> = {
  leaf: encodeLeaf(LEAF_EXTENTS),
  'leaf-zero': encodeLeaf([{ blocks: 4096 }]),
  inner: encodeInner(INNER_LEVEL, INNER_HASHES),
  root: encodeVersionRoot(ROOT),
}
