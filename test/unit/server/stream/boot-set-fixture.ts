/** A boot set over a version in memory. */
import type { VersionReader } from '#server/store/chunk-store.ts'
import { BootSet } from '#server/stream/boot-set.ts'
import { BootSetLayout } from '#server/stream/boot-set-layout.ts'
import { PieceCache } from '#server/stream/piece-cache.ts'
import { SlabPool } from '#server/stream/slab-pool.ts'
import { planBootList } from '#server/traces/boot-list.ts'
import { CHUNK_LEVEL } from '#shared/wire/frame.ts'
import { blockImage } from '#test/support/block-image.ts'
import { MemoryChunkStore } from '#test/support/memory-chunk-store.ts'

export interface BootSetFixture {
  readonly store: MemoryChunkStore
  readonly versionId: string
  readonly reader: VersionReader
  readonly set: BootSet
  readonly slabs: SlabPool
  /** What the set told to be damaged. */
  readonly damages: unknown[]
}

/** The list has all chunks of 600 random blocks, every second one first: 2.4 MB in 16 pieces. */
export async function createBootSet(blocks = 600): Promise<BootSetFixture> {
  const store = new MemoryChunkStore()
  const { versionId } = store.add(blockImage(blocks, 'boot set'))
  const reader = await store.openVersion(versionId)
  const slabs = new SlabPool()
  const damages: unknown[] = []
  const set = new BootSet({
    layout: await layoutOf(reader),
    slabs,
    cache: new PieceCache(),
    onDamaged: (error) => damages.push(error),
  })
  return { store, versionId, reader, set, slabs, damages }
}

export async function layoutOf(reader: VersionReader): Promise<BootSetLayout> {
  const { chunks } = reader
  const indexes = Array.from({ length: chunks.count }, (_, index) => index)
  const ordered = [...indexes.filter((it) => it % 2 === 0), ...indexes.filter((it) => it % 2 === 1)]
  const positions = ordered.map((index) => chunks.firstBlock(index))
  return new BootSetLayout(await planBootList(positions, reader))
}

/** Blocks of the chunk entries of a list. */
export function chunkEntries(layout: BootSetLayout): number[] {
  return layout.entries.flatMap(({ level }, index) => (level === CHUNK_LEVEL ? [index] : []))
}
