/** Makes a boot list of the chunks a boot is expected to need: with the nodes that prove each of them. */
import type { VersionReader } from '#server/store/chunk-store.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { nodeOver, treeLevels } from '#shared/manifest/tree-shape.ts'
import { type BootListEntry, CHUNK_LEVEL } from '#shared/wire/frame.ts'
import { BOOT_LIST_ENTRIES_MAX } from '#shared/wire/limits.ts'

/**
 * Nodes come once each, from the root down, before the first chunk that needs them. Positions at which
 * the version has no chunk are left out.
 */
export async function planBootList(
  positions: Iterable<number>,
  reader: VersionReader,
): Promise<BootListEntry[]> {
  const { chunks } = reader
  const levels = treeLevels(reader.sizeBytes)
  const node = new Uint8Array(LEAF_BYTES_MAX)
  const entries: BootListEntry[] = []
  const seenAt = Array.from({ length: levels + 1 }, () => new Set<number>())
  for (const position of positions) {
    const index = chunks.indexAt(position)
    if (index < 0 || chunks.firstBlock(index) !== position) continue
    if (seenAt[CHUNK_LEVEL]?.has(position) === true) continue
    // A path and its chunk, or none of it.
    if (entries.length + levels + 1 > BOOT_LIST_ENTRIES_MAX) break
    for (let level = levels; level > CHUNK_LEVEL; level -= 1) {
      const over = nodeOver(position, level)
      if (seenAt[level]?.has(over) === true) continue
      seenAt[level]?.add(over)
      const storedBytes = await nodeBytes(level, over, reader, node)
      if (storedBytes > 0) entries.push({ level, position: over, storedBytes })
    }
    seenAt[CHUNK_LEVEL]?.add(position)
    entries.push({ level: CHUNK_LEVEL, position, storedBytes: chunks.storedBytes(index) })
  }
  return entries
}

/** How long a node is as it is stored; 0 where there is none, or none that can be read. */
async function nodeBytes(
  level: number,
  position: number,
  reader: VersionReader,
  target: Uint8Array,
): Promise<number> {
  try {
    return (await reader.readObject({ level, position }, target))?.storedBytes ?? 0
  } catch {
    return 0 // who needs it asks for it, and is told why
  }
}
