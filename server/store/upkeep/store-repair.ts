/**
 * Puts in order what a check found: damaged chunks are forgotten, so that the next import of an image
 * that has them stores them again and mends all versions that hold them; what can be derived is rebuilt.
 * Everything is replaced by a rename, so a crash leaves each file as it was or as it shall be.
 */

import type { IndexEntries, IndexEntry } from '../packs/pack-format.ts'
import type { StoreParts } from '../store-parts.ts'
import { readRoot, StoredTree } from '../versions/stored-tree.ts'
import { ChunkSearch } from '../writing/chunk-search.ts'
import { ImportSession } from '../writing/import-session.ts'
import { type CheckedPack, without } from './pack-check.ts'
import type { FoundVersion } from './version-check.ts'
import { mendPlaces, readChunkHashes, rebuildPlaces, rebuildTree } from './version-mending.ts'

/** Is added to. */
export interface RepairOutcome {
  /** Sentences. */
  readonly repairs: string[]
  /** Versions that stay without some of their chunks, or without their tree. */
  readonly incompleteIds: string[]
}

export async function repairPacks(
  checked: Iterable<Omit<CheckedPack, 'entries'>>,
  scanned: ReadonlyMap<string, IndexEntries>,
  { packs, folders }: StoreParts,
  { repairs }: RepairOutcome,
): Promise<void> {
  for (const { pack, isGone, indexFault, damaged } of checked) {
    if (isGone === true) {
      await packs.remove(pack)
      repairs.push(`Forgot pack "${pack.path}", which is not there`)
    } else if (indexFault !== undefined || damaged.size > 0) {
      await folders.change(async () => {
        const entries = scanned.get(pack.id) ?? (await packs.readIndex(pack))
        await packs.writeIndex(pack, without(entries, damaged))
      })
      if (indexFault !== undefined) repairs.push(`Rebuilt the index of "${pack.path}"`)
      if (damaged.size > 0) repairs.push(`Forgot ${damaged.size} damaged chunks of "${pack.path}"`)
    }
  }
}

export async function repairVersions(
  versions: readonly FoundVersion[],
  isDamaged: (packId: string, offset: number) => boolean,
  parts: StoreParts,
  outcome: RepairOutcome,
  signal: AbortSignal,
): Promise<void> {
  const session = await ImportSession.start(parts.packs)
  try {
    const search = new ChunkSearch(session, parts.packs, parts.willHold)
    const repair = new VersionRepair(parts, search, isDamaged, outcome.repairs)
    for (const version of versions) {
      signal.throwIfAborted()
      const isWhole = await parts.folders.change(() => repair.run(version))
      if (!isWhole) outcome.incompleteIds.push(version.versionId)
      await parts.refreshReaders(version.versionId)
    }
  } finally {
    await session.close()
  }
}

class VersionRepair {
  readonly #parts: StoreParts
  readonly #search: ChunkSearch
  readonly #isDamaged: (packId: string, offset: number) => boolean
  readonly #repairs: string[]
  readonly #indexes = new Map<string, IndexEntries>()

  constructor(
    parts: StoreParts,
    search: ChunkSearch,
    isDamaged: (packId: string, offset: number) => boolean,
    repairs: string[],
  ) {
    this.#parts = parts
    this.#search = search
    this.#isDamaged = isDamaged
    this.#repairs = repairs
  }

  /** Returns false when the version lacks something still. */
  async run({ versionId, faults }: FoundVersion): Promise<boolean> {
    const { folders } = this.#parts
    if (!(await folders.list()).includes(versionId)) return true
    const isTreeSound = faults.root === undefined && faults.nodes === undefined
    if (!isTreeSound && faults.places !== undefined) return false
    if (!isTreeSound && !(await this.#rebuildTree(versionId))) return false
    if (isTreeSound && faults.signature !== undefined) await this.#sign(versionId)
    if (faults.places === undefined) await this.#mend(versionId)
    else await this.#rebuildPlaces(versionId)
    return (await folders.readHead(versionId)).lostCount === 0
  }

  async #rebuildTree(versionId: string): Promise<boolean> {
    const { folders, sign } = this.#parts
    const places = await folders.readPlaces(versionId)
    const tree = await rebuildTree(versionId, places, (id, offset) => this.#entryAt(id, offset))
    if (tree === undefined) return false
    await folders.writeNodes(versionId, tree.nodes)
    await folders.writeRoot(versionId, sign(tree.record))
    this.#repairs.push(`Rebuilt the tree of version ${versionId}`)
    return true
  }

  async #sign(versionId: string): Promise<void> {
    const { record } = await readRoot(this.#parts.layout, versionId)
    await this.#parts.folders.writeRoot(versionId, this.#parts.sign(record))
    this.#repairs.push(`Signed version ${versionId} with the key of this server`)
  }

  async #rebuildPlaces(versionId: string): Promise<void> {
    const places = await this.#withTree(versionId, (tree) => rebuildPlaces(tree, this.#search))
    await this.#parts.folders.writePlaces(versionId, places)
    const lost = places.lostCount
    const but = lost === 0 ? '' : `; ${lost} chunks are lost until its image is imported again`
    this.#repairs.push(`Found the chunks of version ${versionId} again${but}`)
  }

  async #mend(versionId: string): Promise<void> {
    const { folders } = this.#parts
    const places = await folders.readPlaces(versionId)
    const hashes = () => this.#withTree(versionId, (tree) => readChunkHashes(tree, places.count))
    const judge = (packId: string, offset: number) =>
      this.#isDamaged(packId, offset) ? 'search' : 'keep'
    const { isChanged, mended, lost } = await mendPlaces(places, hashes, this.#search, judge)
    if (!isChanged) return
    await folders.writePlaces(versionId, places)
    if (mended > 0) this.#repairs.push(`Found ${mended} chunks of version ${versionId} elsewhere`)
    if (lost > 0) {
      const what = `${lost} damaged chunks of version ${versionId}`
      this.#repairs.push(`Forgot ${what}: they are lost until its image is imported again`)
    }
  }

  async #withTree<T>(versionId: string, work: (tree: StoredTree) => Promise<T>): Promise<T> {
    const tree = await StoredTree.open(this.#parts.layout, versionId)
    try {
      return await work(tree)
    } finally {
      await tree.close()
    }
  }

  /** What a pack's index has at an offset; damaged chunks are there no more. */
  async #entryAt(packId: string, offset: number): Promise<IndexEntry | undefined> {
    let entries = this.#indexes.get(packId)
    if (entries === undefined) {
      const pack = this.#parts.packs.get(packId)
      if (pack === undefined) return undefined
      entries = await this.#parts.packs.readIndex(pack).catch(() => undefined)
      if (entries === undefined) return undefined
      this.#indexes.clear()
      this.#indexes.set(packId, entries)
    }
    const index = entries.indexOf(offset)
    return index < 0 ? undefined : entries.get(index)
  }
}
