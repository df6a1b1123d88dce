/**
 * A version of a vDisk in memory: an image cut into chunks, the hash tree over them and its signed
 * root, all by the shared encoders. What a server would have of it, without a store.
 */
import { generateKeyPairSync, hash } from 'node:crypto'
import { constants, zstdCompressSync } from 'node:zlib'
import { type CutExtent, type CutParameters, cutSpan } from '#shared/chunk/chunk-cutting.ts'
import { invariant } from '#shared/invariant.ts'
import { contentHash, ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { encodeInner } from '#shared/manifest/inner-node.ts'
import { encodeLeaf, LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import {
  BLOCK_BYTES,
  bytesOfBlocks,
  childCount,
  FAN_OUT,
  leafBlocks,
  nodeOver,
  nodesAt,
  SPAN_BLOCKS,
  treeLevels,
} from '#shared/manifest/tree-shape.ts'
import {
  CUT_TODAY,
  encodeVersionRoot,
  type SignedRoot,
  signVersionRoot,
  type VersionRoot,
  versionIdOf,
} from '#shared/manifest/version-root.ts'
import {
  type AnswerEncoding,
  type BootListEntry,
  CHUNK_ENCODING,
  CHUNK_LEVEL,
  type ChunkEncoding,
  NO_PAYLOAD,
  type ObjectHeader,
  type ObjectName,
  type TraceEntry,
} from '#shared/wire/frame.ts'
import type { Opened } from '#shared/wire/messages.ts'

/** A server's key as far as signing needs it. */
export interface SigningKey {
  readonly keyPem: string
  /** SubjectPublicKeyInfo, DER. */
  readonly signerKey: Uint8Array
  readonly pin: string
}

export function createSigningKey(): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const signerKey = publicKey.export({ type: 'spki', format: 'der' })
  return {
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    signerKey,
    pin: hash('sha256', signerKey, 'base64url'),
  }
}

let keyOfTests: SigningKey | undefined

/** A chunk in its place. */
export interface PlacedChunk {
  readonly firstBlock: number
  readonly blocks: number
  readonly hash: Uint8Array
}

export interface StoredObject {
  readonly header: ObjectHeader
  readonly payload: Uint8Array
}

export interface MemoryVersionOptions {
  readonly cut?: CutParameters
  /** Default: one key for all versions of a process. */
  readonly key?: SigningKey
}

const NOTHING = new Uint8Array(0)
const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 3 } }

export class MemoryVersion {
  readonly image: Uint8Array
  readonly key: SigningKey
  readonly root: VersionRoot
  readonly signedRoot: SignedRoot
  readonly versionId: string
  /** In the order of the vDisk. */
  readonly chunks: readonly PlacedChunk[]
  /** Bytes of nodes that are not all zero; see `nodeKey`. */
  readonly #nodes = new Map<string, Uint8Array>()
  /** Number of the chunk that covers a block, -1 for zeros. */
  readonly #chunkOfBlock: Int32Array
  readonly #stored = new Map<string, StoredObject>()

  /** Keeps the image. */
  constructor(image: Uint8Array, options: MemoryVersionOptions = {}) {
    keyOfTests ??= createSigningKey()
    const { cut = CUT_TODAY, key = keyOfTests } = options
    this.image = image
    this.key = key
    this.#chunkOfBlock = new Int32Array(Math.ceil(image.length / BLOCK_BYTES)).fill(-1)
    this.chunks = this.#cut(cut)
    this.root = { sizeBytes: image.length, cut, rootHash: this.#buildTree() }
    const record = encodeVersionRoot(this.root)
    this.versionId = versionIdOf(record)
    this.signedRoot = signVersionRoot(record, key.keyPem, key.signerKey)
  }

  get sizeBytes(): number {
    return this.image.length
  }

  /** Stored bytes of all chunks. */
  get storedBytes(): number {
    return this.chunks.reduce((sum, it) => sum + this.object(chunkName(it)).payload.length, 0)
  }

  /** The chunk that covers a block; undefined for zeros. */
  chunkAt(block: number): PlacedChunk | undefined {
    return this.chunks[this.#chunkOfBlock[block] ?? -1]
  }

  rawChunk({ firstBlock, blocks }: Omit<PlacedChunk, 'hash'>): Uint8Array {
    const offset = firstBlock * BLOCK_BYTES
    const length = bytesOfBlocks(this.sizeBytes, firstBlock, blocks)
    return this.image.subarray(offset, offset + length)
  }

  /** A node's bytes; undefined when everything below it is zero. */
  node(level: number, position: number): Uint8Array | undefined {
    return this.#nodes.get(nodeKey(level, position))
  }

  /** Nodes from the root down to the leaf over a block that are not all zero. */
  nodesOver(block: number): ObjectName[] {
    return Array.from({ length: treeLevels(this.sizeBytes) }, (_, at) => {
      const level = treeLevels(this.sizeBytes) - at
      return { level, position: nodeOver(block, level) }
    }).filter(({ level, position }) => this.node(level, position) !== undefined)
  }

  /** What a server answers. A chunk may be named by any of its blocks. */
  object({ level, position }: ObjectName): StoredObject {
    const chunk = level === CHUNK_LEVEL ? this.chunkAt(position) : undefined
    const place = chunk?.firstBlock ?? position
    const raw = level === CHUNK_LEVEL ? chunk && this.rawChunk(chunk) : this.node(level, position)
    if (raw === undefined) return answer({ level, position }, NO_PAYLOAD.absent, 0, NOTHING)
    const key = nodeKey(level, place)
    const stored = this.#stored.get(key) ?? store({ level, position: place }, raw)
    this.#stored.set(key, stored)
    return stored
  }

  /** The list of a boot that reads the chunks at these blocks in this order, nodes included. */
  bootList(blocks: readonly number[]): BootListEntry[] {
    const seen = new Set<string>()
    const names = blocks.flatMap((block) => {
      const chunk = this.chunkAt(block)
      return chunk === undefined ? [] : [...this.nodesOver(block), chunkName(chunk)]
    })
    return names
      .filter(({ level, position }) => {
        const key = nodeKey(level, position)
        const isNew = !seen.has(key)
        seen.add(key)
        return isNew
      })
      .map((name) => ({ ...name, storedBytes: this.object(name).payload.length }))
  }

  /** The same, of what a boot told. */
  bootListOf(trace: readonly TraceEntry[]): BootListEntry[] {
    return this.bootList(trace.map(({ position }) => position))
  }

  /** What a server says when it opens the version. */
  opened(fields: Partial<Opened> = {}): Opened {
    return {
      kind: 'opened',
      vdisk: 'debian',
      versionId: this.versionId,
      sizeBytes: this.sizeBytes,
      storedBytes: this.storedBytes,
      manifest: {
        record: Buffer.from(this.signedRoot.record).toString('base64'),
        signature: Buffer.from(this.signedRoot.signature).toString('base64'),
        signerKey: Buffer.from(this.signedRoot.signerKey).toString('base64'),
      },
      hydration: { mode: 'off', rateBytesPerSecond: 0 },
      writeCache: { place: 'auto', isKept: false, limitBytes: 0 },
      root: { partition: 1, fsType: 'ext4', options: '' },
      ...fields,
    }
  }

  #cut(cut: CutParameters): PlacedChunk[] {
    const chunks: PlacedChunk[] = []
    for (let span = 0; span < nodesAt(this.sizeBytes, LEAF_LEVEL); span += 1) {
      const begin = span * SPAN_BLOCKS
      const bytes = this.image.subarray(
        begin * BLOCK_BYTES,
        (begin + leafBlocks(this.sizeBytes, span)) * BLOCK_BYTES,
      )
      const extents = cutSpan(bytes, cut)
      for (const { firstBlock, blocks, isZero } of extents) {
        if (isZero) continue
        const place = { firstBlock: begin + firstBlock, blocks }
        this.#chunkOfBlock.fill(chunks.length, place.firstBlock, place.firstBlock + blocks)
        chunks.push({ ...place, hash: contentHash(this.rawChunk(place)) })
      }
      this.#addLeaf(span, extents)
    }
    return chunks
  }

  #addLeaf(span: number, extents: readonly CutExtent[]): void {
    if (extents.every(({ isZero }) => isZero)) return
    const begin = span * SPAN_BLOCKS
    const leaf = encodeLeaf(
      extents.map(({ firstBlock, blocks, isZero }) => {
        if (isZero) return { blocks }
        return {
          blocks,
          hash: contentHash(this.rawChunk({ firstBlock: begin + firstBlock, blocks })),
        }
      }),
    )
    this.#nodes.set(nodeKey(LEAF_LEVEL, span), leaf)
  }

  /** Returns the hash of the root node. */
  #buildTree(): Uint8Array {
    const levels = treeLevels(this.sizeBytes)
    for (let level = LEAF_LEVEL + 1; level <= levels; level += 1) {
      for (let position = 0; position < nodesAt(this.sizeBytes, level); position += 1) {
        const children = childCount(this.sizeBytes, level, position)
        const hashes = Array.from({ length: children }, (_, at) =>
          this.#nodeHash(level - 1, position * FAN_OUT + at),
        )
        if (hashes.every((it) => it === ZERO_HASH)) continue
        this.#nodes.set(nodeKey(level, position), encodeInner(level, hashes))
      }
    }
    return this.#nodeHash(levels, 0)
  }

  #nodeHash(level: number, position: number): Uint8Array {
    const node = this.node(level, position)
    return node === undefined ? ZERO_HASH : contentHash(node)
  }
}

export function chunkName({ firstBlock }: Pick<PlacedChunk, 'firstBlock'>): ObjectName {
  return { level: CHUNK_LEVEL, position: firstBlock }
}

export function nodeKey(level: number, position: number): string {
  return `${level}/${position}`
}

function store(name: ObjectName, raw: Uint8Array): StoredObject {
  const packed = zstdCompressSync(raw, ZSTD)
  const isSmaller = packed.length < raw.length
  const encoding: ChunkEncoding = isSmaller ? CHUNK_ENCODING.zstd : CHUNK_ENCODING.raw
  return answer(name, encoding, raw.length, isSmaller ? packed : raw)
}

function answer(
  { level, position }: ObjectName,
  encoding: AnswerEncoding,
  rawBytes: number,
  payload: Uint8Array,
): StoredObject {
  invariant(payload.length <= rawBytes, 'what is stored is no longer than it was')
  return { header: { level, position, encoding, rawBytes, storedBytes: payload.length }, payload }
}
