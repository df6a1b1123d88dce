/** Looks whether a version is whole: root, tree, places, and that what these name is in the packs. */
import { createHash } from 'node:crypto'
import { BootwireError } from '#shared/errors.ts'
import type { LeafNode } from '#shared/manifest/leaf-node.ts'
import { bytesOfBlocks, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { verifyVersionRoot } from '#shared/manifest/version-root.ts'
import type { IndexEntry } from '../packs/pack-format.ts'
import { isMissing } from '../read-fully.ts'
import { CHUNKS_AT_ONCE, type StoreParts, yieldThread } from '../store-parts.ts'
import type { PlaceTable } from '../versions/place-table.ts'
import { readRoot, StoredTree } from '../versions/stored-tree.ts'
import { verifiedLeaves } from '../versions/version-content.ts'

/** What is wrong with a version; each part undefined when it is sound. */
export interface VersionFaults {
  /** The root record cannot be read… */
  root?: string
  /** … or is not signed as clients expect. */
  signature?: string
  nodes?: string
  places?: string
  /** Chunks that lie nowhere any more. */
  lost: number
}

/** Says what lies at a place: the index entry, or how it is damaged. */
export type LookAtPlace = (
  packId: string,
  offset: number,
) => Promise<IndexEntry | { readonly damage: string }>

export interface VersionCheck {
  readonly faults: VersionFaults
  /** Present when they are readable. */
  readonly places?: PlaceTable
}

export interface FoundVersion extends VersionCheck {
  readonly versionId: string
}

export interface VersionCheckContext {
  readonly parts: StoreParts
  readonly look: LookAtPlace
  /** A chunk of this version does not lie where it should. */
  readonly onDamage: (packId: string, offset: number, why: string) => void
  readonly signal: AbortSignal
}

export async function checkVersion(
  versionId: string,
  context: VersionCheckContext,
): Promise<VersionCheck> {
  const { parts, signal } = context
  const faults: VersionFaults = { lost: 0 }
  await note(faults, 'root', () => checkRoot(versionId, parts, faults))
  const places = await note(faults, 'places', () => parts.folders.readPlaces(versionId))
  if (faults.root === undefined) {
    const walk = new TreeWalk(places)
    await note(faults, 'nodes', async () => {
      await using tree = await openTree(parts, versionId)
      for await (const { position, leaf } of verifiedLeaves(tree.tree)) {
        signal.throwIfAborted()
        if (leaf !== undefined) await walk.span(leaf, position * SPAN_BLOCKS, context)
      }
      walk.end()
    })
    faults.lost = walk.lost
    if (walk.fault !== undefined) faults.places ??= walk.fault
  }
  return { faults, ...(faults.places === undefined && places !== undefined && { places }) }
}

interface TreeChunk {
  readonly firstBlock: number
  readonly blocks: number
  readonly hash: Uint8Array
}

/** Goes along the places while the tree names the chunks. */
class TreeWalk {
  readonly #places: PlaceTable | undefined
  #next = 0
  lost = 0
  fault: string | undefined

  constructor(places: PlaceTable | undefined) {
    this.#places = places
  }

  async span(leaf: LeafNode, spanBlock: number, context: VersionCheckContext): Promise<void> {
    for (let at = 0; at < leaf.extentCount; at += 1) {
      const { firstBlock, blocks, hash } = leaf.extent(at)
      if (hash === undefined) continue
      await this.#chunk({ firstBlock: spanBlock + firstBlock, blocks, hash }, context)
    }
  }

  async #chunk(chunk: TreeChunk, context: VersionCheckContext): Promise<void> {
    const places = this.#places
    if (places === undefined || this.fault !== undefined) return
    const index = this.#next
    this.#next += 1
    if (index % CHUNKS_AT_ONCE === 0) await yieldThread()
    const { firstBlock, blocks } = chunk
    if (places.firstBlock(index) !== firstBlock || places.blocks(index) !== blocks) {
      this.fault = `chunk ${index} is not the one at block ${firstBlock}`
      return
    }
    const number = places.packNumber(index)
    const packId = number === undefined ? undefined : places.packIds[number]
    if (packId === undefined) this.lost += 1
    else await compare(chunk, index, packId, places, context)
  }

  end(): void {
    if (this.#places !== undefined && this.#places.count !== this.#next) {
      this.fault ??= `it has ${this.#places.count} chunks, the tree ${this.#next}`
    }
  }
}

async function compare(
  { firstBlock, blocks, hash }: TreeChunk,
  index: number,
  packId: string,
  places: PlaceTable,
  { look, onDamage }: VersionCheckContext,
): Promise<void> {
  const offset = places.offset(index)
  const found = await look(packId, offset)
  if ('damage' in found) {
    onDamage(packId, offset, found.damage)
    return
  }
  const isSame =
    Buffer.compare(found.hash, hash) === 0 &&
    found.rawBytes === bytesOfBlocks(places.sizeBytes, firstBlock, blocks) &&
    found.encoding === places.encoding(index) &&
    found.storedBytes === places.storedBytes(index) &&
    found.checksum === places.checksum(index)
  if (!isSame) onDamage(packId, offset, 'another chunk lies there')
}

async function checkRoot(
  versionId: string,
  { layout, sign }: StoreParts,
  faults: VersionFaults,
): Promise<void> {
  const root = await readRoot(layout, versionId)
  const pin = createHash('sha256').update(root.signerKey).digest('base64url')
  try {
    verifyVersionRoot(root, versionId, pin)
    const { signerKey } = sign(root.record)
    if (Buffer.compare(signerKey, root.signerKey) === 0) return
    faults.signature = 'it was signed by another key than that of this server'
  } catch (error) {
    if (!(error instanceof BootwireError) || error.code !== 'MANIFEST_UNTRUSTED') throw error
    faults.signature = error.message
  }
}

async function openTree({ layout }: StoreParts, versionId: string) {
  const tree = await StoredTree.open(layout, versionId)
  return { tree, [Symbol.asyncDispose]: () => tree.close() }
}

/** Runs `work`; what is wrong with the files becomes the fault of a part. */
async function note<T>(
  faults: VersionFaults,
  part: 'root' | 'nodes' | 'places',
  work: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof BootwireError) && !isMissing(error)) throw error
    faults[part] = error.message
    return undefined
  }
}
