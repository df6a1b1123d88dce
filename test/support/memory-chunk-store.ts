/** A ChunkStore in memory: versions with a real tree, chunks raw, nothing shared. */
import { generateKeyPairSync } from 'node:crypto'
import type {
  ChunkStore,
  ChunkTable,
  CommittedVersion,
  StoredObject,
  VersionReader,
  VersionWriter,
} from '#server/store/chunk-store.ts'
import { TreeBuilder } from '#server/store/versions/tree-builder.ts'
import { cutAndHash } from '#server/store/writing/span-encoder.ts'
import { BootwireError } from '#shared/errors.ts'
import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { BLOCK_BYTES, bytesOfBlocks, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import {
  CUT_TODAY,
  encodeVersionRoot,
  type SignedRoot,
  signVersionRoot,
  versionIdOf,
} from '#shared/manifest/version-root.ts'
import { CHUNK_ENCODING, CHUNK_LEVEL, type ObjectName } from '#shared/wire/frame.ts'

const SPAN_BYTES = SPAN_BLOCKS * BLOCK_BYTES

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const keyPem = pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
/** Public key (SPKI, DER) that versions in memory are signed with, unless told otherwise. */
export const TEST_SIGNER_KEY: Uint8Array = pair.publicKey.export({ type: 'spki', format: 'der' })

export function signForTest(record: Uint8Array): SignedRoot {
  return signVersionRoot(record, keyPem, TEST_SIGNER_KEY)
}

interface MemoryVersion {
  readonly image: Uint8Array
  readonly signedRoot: SignedRoot
  readonly chunks: MemoryChunkTable
  readonly nodes: ReadonlyMap<string, Uint8Array>
}

export class MemoryChunkStore implements ChunkStore {
  /** Readers that are open right now. */
  openReaders = 0
  /** Set to have reads of the chunk that covers this block fail. */
  corruptBlock: number | undefined
  readonly #sign: (record: Uint8Array) => SignedRoot
  readonly #versions = new Map<string, MemoryVersion>()

  constructor(sign: (record: Uint8Array) => SignedRoot = signForTest) {
    this.#sign = sign
  }

  /** Stores an image as a version at once. */
  add(image: Uint8Array): CommittedVersion {
    if (image.length === 0) {
      throw new BootwireError('IMAGE_EMPTY', 'Cannot store an image of 0 bytes')
    }
    const chunks = new MemoryChunkTable(image.length)
    const nodes = new Map<string, Uint8Array>()
    const record = buildTree(image, chunks, nodes)
    const versionId = versionIdOf(record)
    this.#versions.set(versionId, { image, signedRoot: this.#sign(record), chunks, nodes })
    const storedBytes = chunks.totalBytes
    return { versionId, sizeBytes: image.length, storedBytes, sharedBytes: 0, mendedChunks: 0 }
  }

  async createVersion(): Promise<VersionWriter> {
    const parts: Uint8Array[] = []
    return {
      append: async (bytes) => void parts.push(Uint8Array.from(bytes)),
      appendZeros: async (lengthBytes) => void parts.push(new Uint8Array(lengthBytes)),
      commit: async () => this.add(new Uint8Array(Buffer.concat(parts))),
      abort: async () => void parts.splice(0),
    }
  }

  async openVersion(versionId: string): Promise<VersionReader> {
    const version = this.#versions.get(versionId)
    if (version === undefined) {
      throw new BootwireError('NOT_FOUND', `Cannot find version ${versionId}`)
    }
    this.openReaders += 1
    const { image, signedRoot, chunks } = version
    return {
      versionId,
      signedRoot,
      sizeBytes: image.length,
      storedBytes: chunks.totalBytes,
      chunks,
      readObject: async (name, target) => this.#read(version, name, target),
      readHashes: async () => new Uint8Array(Buffer.concat(chunks.hashes)),
      close: async () => {
        this.openReaders -= 1
      },
    }
  }

  async removeVersion(versionId: string): Promise<void> {
    this.#versions.delete(versionId)
  }

  async listVersions(): Promise<string[]> {
    return [...this.#versions.keys()].sort()
  }

  async collectGarbage() {
    return { removedChunks: 0, removedBytes: 0, keptDeadBytes: 0 }
  }

  async check() {
    const versions = [...this.#versions.values()]
    const chunks = versions.reduce((sum, { chunks }) => sum + chunks.count, 0)
    const storedBytes = versions.reduce((sum, { chunks }) => sum + chunks.totalBytes, 0)
    const found = { chunksRead: 0, damages: [], repairs: [], incompleteIds: [] }
    return { versions: versions.length, chunks, storedBytes, ...found }
  }

  async close(): Promise<void> {
    // Nothing is open.
  }

  #read(
    { image, chunks, nodes }: MemoryVersion,
    { level, position }: ObjectName,
    target: Uint8Array,
  ): StoredObject | undefined {
    if (level !== CHUNK_LEVEL) return put(nodes.get(`${level}/${position}`), position, target)
    const index = chunks.indexAt(position)
    if (index < 0) return undefined
    if (this.corruptBlock !== undefined && chunks.indexAt(this.corruptBlock) === index) {
      throw new BootwireError('CHUNK_CORRUPT', `Cannot read the chunk at ${position}: /secret/path`)
    }
    const begin = chunks.firstBlock(index) * BLOCK_BYTES
    const bytes = image.subarray(begin, begin + chunks.storedBytes(index))
    return put(bytes, chunks.firstBlock(index), target)
  }
}

function put(
  bytes: Uint8Array | undefined,
  position: number,
  target: Uint8Array,
): StoredObject | undefined {
  if (bytes === undefined) return undefined
  target.set(bytes)
  const [rawBytes, storedBytes] = [bytes.length, bytes.length]
  return { encoding: CHUNK_ENCODING.raw, position, rawBytes, storedBytes }
}

function buildTree(
  image: Uint8Array,
  chunks: MemoryChunkTable,
  nodes: Map<string, Uint8Array>,
): Uint8Array {
  const tree = new TreeBuilder()
  for (let span = 0; span * SPAN_BYTES < image.length; span += 1) {
    const cut = cutAndHash(image.subarray(span * SPAN_BYTES, (span + 1) * SPAN_BYTES))
    for (const [index, blocks] of cut.blocks.entries()) {
      const hash = cut.hashes.subarray(index * 32, (index + 1) * 32)
      chunks.push(span * SPAN_BLOCKS + (cut.firstBlocks[index] ?? 0), blocks, hash)
    }
    tree.addLeaf(cut.leafHash)
    if (cut.leaf.length > 0) nodes.set(`${LEAF_LEVEL}/${span}`, cut.leaf)
  }
  const { nodes: inner, rootHash } = tree.finish()
  for (const { level, position, bytes } of inner) nodes.set(`${level}/${position}`, bytes)
  return encodeVersionRoot({ sizeBytes: image.length, cut: CUT_TODAY, rootHash })
}

class MemoryChunkTable implements ChunkTable {
  readonly hashes: Uint8Array[] = []
  readonly #sizeBytes: number
  readonly #chunks: { readonly firstBlock: number; readonly blocks: number }[] = []

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes
  }

  push(firstBlock: number, blocks: number, hash: Uint8Array): void {
    this.#chunks.push({ firstBlock, blocks })
    this.hashes.push(hash)
  }

  get count(): number {
    return this.#chunks.length
  }

  storedBytes(index: number): number {
    return bytesOfBlocks(this.#sizeBytes, this.firstBlock(index), this.blocks(index))
  }

  get totalBytes(): number {
    return this.#chunks.reduce((sum, _, index) => sum + this.storedBytes(index), 0)
  }

  firstBlock(index: number): number {
    return this.#chunks[index]?.firstBlock ?? 0
  }

  blocks(index: number): number {
    return this.#chunks[index]?.blocks ?? 0
  }

  indexAt(block: number): number {
    return this.#chunks.findIndex(
      ({ firstBlock, blocks }) => block >= firstBlock && block < firstBlock + blocks,
    )
  }
}
