/**
 * What imports share while any of them runs: the worker threads, the index of stored chunks, and the
 * chunks that one of them is storing right now, so that no other stores them again.
 *
 * An import holds every pack it relies on from the moment it decides to (`PackHolder.hold`), and
 * garbage collection leaves alone what is held: that is all the two need to know of each other.
 */

import { ChunkIndex } from '../packs/chunk-index.ts'
import type { Pack } from '../packs/pack.ts'
import type { IndexEntries } from '../packs/pack-format.ts'
import type { PackSet } from '../packs/pack-set.ts'
import type { Place } from '../versions/place-table.ts'
import { SpanPool } from './span-pool.ts'

/** An import, as far as the packs are concerned. */
export interface PackHolder {
  hold(pack: Pack): void
}

/** A chunk that is being stored. */
export interface ComingChunk {
  /** Has somebody hold the pack that it will lie in. */
  holdFor(holder: PackHolder): void
  whenStored(): Promise<Place>
}

/** A chunk that an import found damaged, and where it stored it anew. */
export interface ReplacedChunk {
  readonly pack: Pack
  readonly offset: number
  readonly place: Place
}

export class ImportSession {
  #pool: SpanPool | undefined
  readonly index: ChunkIndex<Pack>
  /** By content hash, as a string of its bytes. */
  readonly coming = new Map<string, ComingChunk>()

  private constructor(index: ChunkIndex<Pack>) {
    this.index = index
  }

  /** Chunks of packs whose index cannot be read are stored again rather than shared. */
  static async start(packs: PackSet): Promise<ImportSession> {
    const sealed = packs.list().filter(({ isLeaving, writer }) => !isLeaving && !writer)
    const counts = await Promise.all(sealed.map((pack) => packs.chunkCount(pack).catch(() => 0)))
    const count = counts.reduce((sum, each) => sum + each, 0)
    const session = new ImportSession(new ChunkIndex(count))
    for (const pack of sealed) {
      const entries = await packs.readIndex(pack).catch(() => undefined)
      if (entries !== undefined) session.addPack(pack, entries)
    }
    return session
  }

  addPack(pack: Pack, entries: IndexEntries): void {
    for (let entry = 0; entry < entries.count; entry += 1) {
      const [first, second] = entries.hashWords(entry)
      this.index.add(first, second, { pack, offset: entries.offset(entry) })
    }
  }

  /** Started by whoever asks first. */
  get pool(): SpanPool {
    this.#pool ??= new SpanPool()
    return this.#pool
  }

  async close(): Promise<void> {
    await this.#pool?.close()
  }
}
