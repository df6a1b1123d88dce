/**
 * Gives chunks of a version that have no sound place one where the store has them elsewhere, and
 * rebuilds what can be derived: places from tree and packs, tree from places and packs, the root record
 * from both. What is rebuilt is proven by the version's id.
 */
import { contentHash, HASH_BYTES, ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { encodeLeaf, LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { leafBlocks, nodesAt, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { CUT_TODAY, encodeVersionRoot, versionIdOf } from '#shared/manifest/version-root.ts'
import type { IndexEntry } from '../packs/pack-format.ts'
import { CHUNKS_AT_ONCE, yieldThread } from '../store-parts.ts'
import { type Place, PlaceTable } from '../versions/place-table.ts'
import { TreeBuilder, type TreeNode } from '../versions/tree-builder.ts'
import { type TreeReader, verifiedLeaves } from '../versions/version-content.ts'
import type { ChunkSearch } from '../writing/chunk-search.ts'

/** Content hashes of a version's chunks in order. */
export async function readChunkHashes(tree: TreeReader, count: number): Promise<Uint8Array> {
  const hashes = new Uint8Array(count * HASH_BYTES)
  let at = 0
  for await (const { leaf } of verifiedLeaves(tree)) {
    if (leaf === undefined) continue
    for (let index = 0; index < leaf.extentCount; index += 1) {
      const { hash } = leaf.extent(index)
      if (hash === undefined || at === hashes.length) continue
      hashes.set(hash, at)
      at += HASH_BYTES
    }
  }
  return hashes
}

/** What becomes of a chunk's place: it stays, it is another, or the chunk is to be looked for. */
export type PlaceVerdict = 'keep' | 'search' | Place

export interface MendedPlaces {
  readonly isChanged: boolean
  /** Chunks that had no sound place and have one now. */
  readonly mended: number
  /** Chunks without a place. */
  readonly lost: number
}

/** `judge` says what becomes of a chunk that has a place; one without is always looked for. */
export async function mendPlaces(
  places: PlaceTable,
  hashes: () => Promise<Uint8Array>,
  search: ChunkSearch,
  judge: (packId: string, offset: number) => PlaceVerdict,
): Promise<MendedPlaces> {
  let [mended, lost, isChanged] = [0, 0, false]
  let all: Uint8Array | undefined
  for (let index = 0; index < places.count; index += 1) {
    if (index % CHUNKS_AT_ONCE === 0) await yieldThread()
    const number = places.packNumber(index)
    const packId = number === undefined ? undefined : places.packIds[number]
    const verdict = packId === undefined ? 'search' : judge(packId, places.offset(index))
    if (verdict === 'keep') continue
    all ??= verdict === 'search' ? await hashes() : undefined
    const hash = all?.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
    const place = verdict === 'search' ? hash && (await search.find(hash)) : verdict
    if (place === undefined) lost += 1
    else mended += 1
    if (place !== undefined || packId !== undefined) isChanged = true
    places.set(index, place)
  }
  return { isChanged, mended, lost }
}

/** Makes a version's places anew, from its tree and what the packs have. */
export async function rebuildPlaces(
  tree: TreeReader & { readonly sizeBytes: number },
  search: ChunkSearch,
): Promise<PlaceTable> {
  const places = new PlaceTable(tree.sizeBytes)
  for await (const { position, leaf } of verifiedLeaves(tree)) {
    if (leaf === undefined) continue
    for (let index = 0; index < leaf.extentCount; index += 1) {
      const { firstBlock, blocks, hash } = leaf.extent(index)
      if (hash === undefined) continue
      const extent = { firstBlock: position * SPAN_BLOCKS + firstBlock, blocks }
      places.add(extent, await search.find(hash))
    }
  }
  return places
}

/** Makes a version's root record anew; undefined when it is not the one of this id. */
export function rebuildRecord(
  versionId: string,
  sizeBytes: number,
  rootHash: Uint8Array,
): Uint8Array | undefined {
  const record = encodeVersionRoot({ sizeBytes, cut: CUT_TODAY, rootHash })
  return versionIdOf(record) === versionId ? record : undefined
}

export interface RebuiltTree {
  readonly nodes: readonly TreeNode[]
  readonly record: Uint8Array
}

/** Makes a version's tree anew; undefined when the places do not lead to the version's id. */
export async function rebuildTree(
  versionId: string,
  places: PlaceTable,
  entryAt: (packId: string, offset: number) => Promise<IndexEntry | undefined>,
): Promise<RebuiltTree | undefined> {
  const tree = new TreeBuilder()
  const leaves: TreeNode[] = []
  let next = 0
  for (let position = 0; position < nodesAt(places.sizeBytes, LEAF_LEVEL); position += 1) {
    const extents: { blocks: number; hash?: Uint8Array }[] = []
    const begin = position * SPAN_BLOCKS
    const end = begin + leafBlocks(places.sizeBytes, position)
    let block = begin
    for (; next < places.count && places.firstBlock(next) < end; next += 1) {
      const zeros = places.firstBlock(next) - block
      if (zeros > 0) extents.push({ blocks: zeros })
      const number = places.packNumber(next)
      const packId = number === undefined ? undefined : places.packIds[number]
      const entry = packId === undefined ? undefined : await entryAt(packId, places.offset(next))
      if (entry === undefined) return undefined
      extents.push({ blocks: places.blocks(next), hash: entry.hash })
      block = places.firstBlock(next) + places.blocks(next)
    }
    const isZero = block === begin
    if (block < end) extents.push({ blocks: end - block })
    const bytes = isZero ? undefined : encodeLeaf(extents)
    tree.addLeaf(bytes === undefined ? ZERO_HASH : contentHash(bytes))
    if (bytes !== undefined) leaves.push({ level: LEAF_LEVEL, position, bytes })
  }
  const { nodes, rootHash } = tree.finish()
  const record = rebuildRecord(versionId, places.sizeBytes, rootHash)
  return record && { nodes: [...leaves, ...nodes], record }
}
