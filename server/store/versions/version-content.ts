/**
 * The content of a version from its first byte to its last, every node and every chunk proven by its
 * hash, from the root record down. For export and for whoever must have the whole.
 */
import { ChunkDecoder } from '#shared/chunk/chunk-decoder.ts'
import { BootwireError } from '#shared/errors.ts'
import { contentHash, isZeroHash } from '#shared/manifest/content-hash.ts'
import { InnerNode } from '#shared/manifest/inner-node.ts'
import { LEAF_BYTES_MAX, LEAF_LEVEL, LeafNode } from '#shared/manifest/leaf-node.ts'
import {
  BLOCK_BYTES,
  bytesOfBlocks,
  childCount,
  FAN_OUT,
  leafBlocks,
  nodesAt,
  SPAN_BLOCKS,
  treeLevels,
} from '#shared/manifest/tree-shape.ts'
import { decodeVersionRoot } from '#shared/manifest/version-root.ts'
import { CHUNK_LEVEL, type ObjectName } from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import type { VersionReader } from '../chunk-store.ts'

/** Reads nodes; what `verifiedLeaves` needs of a version. */
export type TreeReader = Pick<VersionReader, 'versionId' | 'signedRoot' | 'readObject'>

/** The next piece of a version; pieces follow one another without a gap. */
export interface ContentPiece {
  readonly offsetBytes: number
  readonly lengthBytes: number
  /** Absent for zeros. Valid until the next piece is asked for. */
  readonly bytes?: Uint8Array
}

export interface VerifiedLeaf {
  /** Number of the span. */
  readonly position: number
  /** Undefined when the span is all zero. */
  readonly leaf: LeafNode | undefined
}

/** @throws {BootwireError} CHUNK_CORRUPT, MANIFEST_INVALID; the signal's reason */
export async function* versionContent(
  reader: VersionReader,
  signal: AbortSignal,
): AsyncGenerator<ContentPiece> {
  const { sizeBytes } = reader
  const chunks = new ChunkProver(reader)
  for await (const { position, leaf } of verifiedLeaves(reader)) {
    const spanBlock = position * SPAN_BLOCKS
    const extents = leaf === undefined ? [wholeSpan(sizeBytes, position)] : extentsOf(leaf)
    for (const { firstBlock, blocks, hash } of extents) {
      signal.throwIfAborted()
      const block = spanBlock + firstBlock
      const lengthBytes = bytesOfBlocks(sizeBytes, block, blocks)
      const piece = { offsetBytes: block * BLOCK_BYTES, lengthBytes }
      if (hash === undefined) yield piece
      else yield { ...piece, bytes: await chunks.read(block, lengthBytes, hash) }
    }
  }
}

/** All leaves of a version in order, each proven. @throws {BootwireError} CHUNK_CORRUPT, MANIFEST_INVALID */
export async function* verifiedLeaves(reader: TreeReader): AsyncGenerator<VerifiedLeaf> {
  const { rootHash, sizeBytes } = decodeVersionRoot(reader.signedRoot.record)
  const top = { level: treeLevels(sizeBytes), position: 0 }
  yield* leavesUnder(reader, sizeBytes, top, isZeroHash(rootHash) ? undefined : rootHash)
}

/** `hash` is undefined when everything under the node is zero. */
async function* leavesUnder(
  reader: TreeReader,
  sizeBytes: number,
  { level, position }: ObjectName,
  hash: Uint8Array | undefined,
): AsyncGenerator<VerifiedLeaf> {
  const bytes = hash && (await readNode(reader, { level, position }, hash))
  if (level === LEAF_LEVEL) {
    const leaf = bytes && LeafNode.decode(bytes, leafBlocks(sizeBytes, position))
    yield { position, leaf }
    return
  }
  const children = childCount(sizeBytes, level, position)
  const node = bytes && InnerNode.decode(bytes, level, children)
  for (let child = 0; child < children; child += 1) {
    const name = { level: level - 1, position: position * FAN_OUT + child }
    yield* leavesUnder(reader, sizeBytes, name, node?.child(child))
  }
}

/** Of nodes, one after the other; nothing is kept between two. */
const decoder = new ChunkDecoder()

async function readNode(
  reader: TreeReader,
  name: ObjectName,
  hash: Uint8Array,
): Promise<Uint8Array> {
  const stored = new Uint8Array(LEAF_BYTES_MAX)
  const object = await reader.readObject(name, stored)
  const what = `node ${name.level}/${name.position} of version ${reader.versionId}`
  if (object === undefined) throw corrupt(what, 'it is missing')
  const bytes = new Uint8Array(object.rawBytes)
  decoder.decode(object, stored.subarray(0, object.storedBytes), bytes, 0)
  if (Buffer.compare(contentHash(bytes), hash) !== 0) throw corrupt(what, 'its hash is another')
  return bytes
}

/** Reads chunks and proves each by its hash, in the same memory. */
class ChunkProver {
  readonly #reader: VersionReader
  readonly #decoder = new ChunkDecoder()
  readonly #stored = new Uint8Array(LEAF_BYTES_MAX)
  readonly #chunk = new Uint8Array(CHUNK_BYTES_MAX)

  constructor(reader: VersionReader) {
    this.#reader = reader
  }

  async read(position: number, lengthBytes: number, hash: Uint8Array): Promise<Uint8Array> {
    const what = `the chunk at block ${position} of version ${this.#reader.versionId}`
    const object = await this.#reader.readObject({ level: CHUNK_LEVEL, position }, this.#stored)
    if (object === undefined) throw corrupt(what, 'it is missing')
    if (object.rawBytes !== lengthBytes) throw corrupt(what, 'it has another length')
    this.#decoder.decode(object, this.#stored.subarray(0, object.storedBytes), this.#chunk, 0)
    const bytes = this.#chunk.subarray(0, lengthBytes)
    if (Buffer.compare(contentHash(bytes), hash) !== 0) throw corrupt(what, 'its hash is another')
    return bytes
  }
}

function* extentsOf(leaf: LeafNode) {
  for (let index = 0; index < leaf.extentCount; index += 1) yield leaf.extent(index)
}

function wholeSpan(sizeBytes: number, position: number) {
  return { firstBlock: 0, blocks: leafBlocks(sizeBytes, position), hash: undefined }
}

/** Number of leaves, for progress. */
export function leafCount(sizeBytes: number): number {
  return nodesAt(sizeBytes, LEAF_LEVEL)
}

function corrupt(what: string, why: string): BootwireError {
  return new BootwireError('CHUNK_CORRUPT', `Cannot read ${what}: ${why}`)
}
