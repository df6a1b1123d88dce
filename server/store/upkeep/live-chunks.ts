/** Which chunks of the store some version holds: one bit each, 5 bytes for each chunk with its offset. */
import { BootwireError } from '#shared/errors.ts'
import type { Pack } from '../packs/pack.ts'
import { CHUNK_HEADER_BYTES, type IndexEntries } from '../packs/pack-format.ts'
import { isMissing } from '../read-fully.ts'
import { CHUNKS_AT_ONCE, type StoreParts, yieldThread } from '../store-parts.ts'
import type { PlaceTable } from '../versions/place-table.ts'

/** A pack and which of its chunks live. */
export class LivePack {
  readonly pack: Pack
  readonly #offsets: Uint32Array
  readonly #recordBytes: Uint32Array
  readonly #isLive: Uint8Array
  /** Chunks of a version mostly follow one another in a pack: where the next one probably is. */
  #next = 0

  constructor(pack: Pack, entries: IndexEntries) {
    this.pack = pack
    const indexes = { length: entries.count }
    this.#offsets = Uint32Array.from(indexes, (_, index) => entries.offset(index))
    this.#recordBytes = Uint32Array.from(indexes, (_, index) => entries.recordBytes(index))
    this.#isLive = new Uint8Array(entries.count)
  }

  get chunkCount(): number {
    return this.#offsets.length
  }

  mark(offset: number): void {
    const index = this.#offsets[this.#next] === offset ? this.#next : this.#indexOf(offset)
    if (index < 0) return
    this.#isLive[index] = 1
    this.#next = index + 1
  }

  tally(): { liveBytes: number; deadBytes: number; deadChunks: number } {
    const sums = { liveBytes: 0, deadBytes: 0, deadChunks: 0 }
    for (const [index, bytes] of this.#recordBytes.entries()) {
      if (this.#isLive[index] === 1) sums.liveBytes += bytes
      else {
        sums.deadBytes += bytes
        sums.deadChunks += 1
      }
    }
    return sums
  }

  /** Records of live chunks in order. */
  *records(): Generator<{ readonly offset: number; readonly lengthBytes: number }> {
    for (const [index, offset] of this.#offsets.entries()) {
      if (this.#isLive[index] !== 1) continue
      yield { offset, lengthBytes: this.#recordBytes[index] ?? CHUNK_HEADER_BYTES }
    }
  }

  #indexOf(offset: number): number {
    let low = 0
    let high = this.#offsets.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#offsets[middle] ?? 0) < offset) low = middle + 1
      else high = middle
    }
    return this.#offsets[low] === offset ? low : -1
  }
}

/**
 * Looks which chunks of these packs are held. Packs whose index cannot be read are left out.
 * @throws {BootwireError} STATE_UNREADABLE when a version cannot say what it holds
 */
export async function findLiveChunks(
  { packs, folders }: Pick<StoreParts, 'packs' | 'folders'>,
  candidates: readonly Pack[],
  signal: AbortSignal,
): Promise<LivePack[]> {
  const live = new Map<string, LivePack>()
  for (const pack of candidates) {
    signal.throwIfAborted()
    const entries = await packs.readIndex(pack).catch(() => undefined)
    if (entries !== undefined) live.set(pack.id, new LivePack(pack, entries))
  }
  for (const versionId of await folders.list()) {
    signal.throwIfAborted()
    const places = await readPlaces(versionId, () => folders.readPlaces(versionId))
    if (places !== undefined) await markAll(places, live)
  }
  return [...live.values()]
}

async function markAll(places: PlaceTable, live: ReadonlyMap<string, LivePack>): Promise<void> {
  const packs = places.packIds.map((packId) => live.get(packId))
  for (let index = 0; index < places.count; index += 1) {
    if (index % CHUNKS_AT_ONCE === 0) await yieldThread()
    const pack = places.packNumber(index)
    if (pack !== undefined) packs[pack]?.mark(places.offset(index))
  }
}

/** Returns undefined for a version that was removed meanwhile. */
async function readPlaces(
  versionId: string,
  read: () => Promise<PlaceTable>,
): Promise<PlaceTable | undefined> {
  try {
    return await read()
  } catch (cause) {
    if (isMissing(cause)) return undefined
    const message = `Cannot tell which chunks version "${versionId}" holds; "bootwire check --repair" may mend it`
    throw new BootwireError('STATE_UNREADABLE', message, { cause })
  }
}
