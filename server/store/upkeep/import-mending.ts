/**
 * What an import does for other versions: chunks they have lost, and ones it found damaged, are theirs
 * again once it has stored them.
 */

import type { StoreParts } from '../store-parts.ts'
import type { Place } from '../versions/place-table.ts'
import { StoredTree } from '../versions/stored-tree.ts'
import { ChunkSearch } from '../writing/chunk-search.ts'
import type { ImportSession, ReplacedChunk } from '../writing/import-session.ts'
import { without } from './pack-check.ts'
import { mendPlaces, readChunkHashes } from './version-mending.ts'

export async function mendAfterImport(
  parts: StoreParts,
  session: ImportSession,
  replaced: readonly ReplacedChunk[],
): Promise<void> {
  const { folders, packs, refreshReaders } = parts
  const places = new Map<string, Place>()
  for (const { pack, offset, place } of replaced) places.set(`${pack.id}@${offset}`, place)
  const damagedPacks = new Set(replaced.map(({ pack }) => pack.id))
  const search = new ChunkSearch(session, packs, parts.willHold)
  for (const versionId of await folders.list()) {
    // One that cannot be read is for `check` to mend, and no reason for the import to fail.
    const isMended = await folders
      .change(() => mendVersion(versionId, parts, { places, damagedPacks, search }))
      .catch(() => false)
    if (isMended) await refreshReaders(versionId)
  }
  for (const packId of damagedPacks) {
    const offsets = new Map<number, unknown>()
    for (const { pack, offset } of replaced) if (pack.id === packId) offsets.set(offset, true)
    const pack = packs.get(packId)
    if (pack === undefined) continue
    await folders
      .change(async () => packs.writeIndex(pack, without(await packs.readIndex(pack), offsets)))
      .catch(() => undefined)
  }
}

async function mendVersion(
  versionId: string,
  { folders, layout }: StoreParts,
  {
    places: replacements,
    damagedPacks,
    search,
  }: {
    /** By the place of the damaged chunk. */
    readonly places: ReadonlyMap<string, Place>
    readonly damagedPacks: ReadonlySet<string>
    readonly search: ChunkSearch
  },
): Promise<boolean> {
  const { packIds, lostCount } = await folders.readHead(versionId)
  if (lostCount === 0 && !packIds.some((packId) => damagedPacks.has(packId))) return false
  const places = await folders.readPlaces(versionId)
  const hashes = async () => {
    const tree = await StoredTree.open(layout, versionId)
    try {
      return await readChunkHashes(tree, places.count)
    } finally {
      await tree.close()
    }
  }
  const judge = (packId: string, offset: number) =>
    replacements.get(`${packId}@${offset}`) ?? 'keep'
  const { isChanged } = await mendPlaces(places, hashes, search, judge)
  if (isChanged) await folders.writePlaces(versionId, places)
  return isChanged
}
