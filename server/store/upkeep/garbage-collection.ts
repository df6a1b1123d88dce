/**
 * Removes chunks that no version holds. A pack without a live chunk goes; of one that is mostly dead
 * the live chunks are copied into a new pack, the places of all versions are exchanged one by one, and
 * then it goes, too. At every moment each version's places name packs that are there and complete.
 *
 * A pack is *taken* (`Pack.isLeaving`) in one step with the look at who holds it: imports that hold it,
 * or have made a version hold it since the live chunks were looked for, keep it out of this run;
 * imports that come later find nothing in it and store the chunk again.
 */
import { crc32 } from 'node:zlib'
import { GiB, MiB } from '#shared/units.ts'
import { readUpTo } from '../checked-read.ts'
import type { GarbageReport } from '../chunk-store.ts'
import type { Pack } from '../packs/pack.ts'
import {
  CHUNK_HEADER_BYTES,
  PACK_BYTES_MAX,
  type PackedChunk,
  RECORD_BYTES_MAX,
  readChunkHeader,
} from '../packs/pack-format.ts'
import type { PackWriter } from '../packs/pack-writer.ts'
import { isMissing } from '../read-fully.ts'
import { CHUNKS_AT_ONCE, type StoreParts, yieldThread } from '../store-parts.ts'
import type { Place, PlaceTable } from '../versions/place-table.ts'
import { findLiveChunks, type LivePack } from './live-chunks.ts'

/** A pack is rewritten when more of it than this is dead. */
const DEAD_SHARE_MAX = 0.5

/** Live bytes copied before places are exchanged: what an abort loses, and what room it takes. */
const BATCH_BYTES: number = GiB

/** One write while copying. */
const WRITE_BYTES: number = MiB

export async function collectGarbage(
  parts: StoreParts,
  signal: AbortSignal,
): Promise<GarbageReport> {
  const startedAt = parts.lastCommit()
  const candidates = parts.packs.list().filter(isFree)
  const live = await findLiveChunks(parts, candidates, signal)
  const report = { removedChunks: 0, removedBytes: 0, keptDeadBytes: 0 }
  const toRewrite: LivePack[] = []
  for (const each of live) {
    const { liveBytes, deadBytes, deadChunks } = each.tally()
    signal.throwIfAborted()
    const isEmpty = liveBytes === 0
    const isWorthIt = isEmpty || deadBytes / (liveBytes + deadBytes) > DEAD_SHARE_MAX
    if (!isWorthIt || !take(each.pack, startedAt)) {
      report.keptDeadBytes += deadBytes
      continue
    }
    if (isEmpty) await parts.packs.remove(each.pack)
    else toRewrite.push(each)
    if (isEmpty) add(report, deadChunks, deadBytes)
  }
  await rewriteAll(toRewrite, parts, report, signal)
  await parts.disk.syncFolder(parts.layout.packs)
  return report
}

async function rewriteAll(
  packs: readonly LivePack[],
  parts: StoreParts,
  report: { removedChunks: number; removedBytes: number; keptDeadBytes: number },
  signal: AbortSignal,
): Promise<void> {
  const waiting = new Set(packs)
  try {
    while (waiting.size > 0) {
      signal.throwIfAborted()
      const batch = nextBatch(waiting)
      const moved = await new Rewriting(parts, signal).run(batch)
      for (const each of batch) {
        waiting.delete(each)
        const { deadBytes, deadChunks } = each.tally()
        if (moved.has(each.pack)) add(report, deadChunks, deadBytes)
        else report.keptDeadBytes += deadBytes
      }
    }
  } finally {
    // Those that are still there may be shared again.
    for (const { pack } of packs) pack.isLeaving = parts.packs.get(pack.id) !== pack
  }
}

function nextBatch(waiting: ReadonlySet<LivePack>): LivePack[] {
  const batch: LivePack[] = []
  let bytes = 0
  for (const each of waiting) {
    if (bytes >= BATCH_BYTES) break
    batch.push(each)
    bytes += each.tally().liveBytes
  }
  return batch
}

/** Copies the live chunks of some packs that are taken, and has versions find them there. */
class Rewriting {
  readonly #parts: StoreParts
  readonly #signal: AbortSignal
  readonly #writers: PackWriter[] = []
  /** By pack they were in, then by offset. */
  readonly #moved = new Map<string, Map<number, Place>>()
  readonly #buffer = new Uint8Array(WRITE_BYTES + RECORD_BYTES_MAX)
  #buffered = 0
  #chunks: (PackedChunk & { readonly from: Pack; readonly oldOffset: number })[] = []

  constructor(parts: StoreParts, signal: AbortSignal) {
    this.#parts = parts
    this.#signal = signal
  }

  /** Returns the packs that are gone. */
  async run(batch: readonly LivePack[]): Promise<ReadonlySet<Pack>> {
    const { packs } = this.#parts
    try {
      const copied: Pack[] = []
      for (const each of batch) if (await this.#copy(each)) copied.push(each.pack)
      await this.#flush()
      for (const writer of this.#writers) await writer.seal()
      await this.#announce()
      const named = await this.#exchangeAll(new Set(copied.map(({ id }) => id)))
      const gone = copied.filter(({ id }) => !named.has(id))
      for (const pack of gone) await packs.remove(pack)
      return new Set(gone)
    } finally {
      // What no version names was in vain.
      for (const { pack } of this.#writers) if (pack.isNew) await packs.remove(pack)
    }
  }

  /** Returns false when a chunk is damaged: such a pack is for `check` to mend, and stays. */
  async #copy(live: LivePack): Promise<boolean> {
    const { packs } = this.#parts
    const file = await packs.openFile(live.pack.id).catch(() => undefined)
    if (file === undefined) return false
    try {
      for (const record of live.records()) {
        this.#signal.throwIfAborted()
        if (this.#buffered >= WRITE_BYTES) await this.#flush()
        if (!(await this.#read(file.descriptor, live.pack, record))) return false
      }
      return true
    } finally {
      await packs.closeFile(file)
    }
  }

  async #read(
    descriptor: number,
    from: Pack,
    { offset, lengthBytes }: { readonly offset: number; readonly lengthBytes: number },
  ): Promise<boolean> {
    const record = this.#buffer.subarray(this.#buffered, this.#buffered + lengthBytes)
    if ((await readUpTo(descriptor, record, offset, lengthBytes)) < lengthBytes) return false
    const chunk = readChunkHeader(record, 0)
    if (chunk === undefined || CHUNK_HEADER_BYTES + chunk.storedBytes !== lengthBytes) return false
    if (crc32(record.subarray(CHUNK_HEADER_BYTES)) !== chunk.checksum) return false
    this.#buffered += lengthBytes
    this.#chunks.push({ ...chunk, hash: chunk.hash.slice(), from, oldOffset: offset })
    return true
  }

  async #flush(): Promise<void> {
    if (this.#buffered === 0) return
    const writer = await this.#writer(this.#buffered)
    let offset = await writer.append(this.#buffer.subarray(0, this.#buffered), this.#chunks)
    for (const { from, oldOffset, ...chunk } of this.#chunks) {
      const { encoding, storedBytes, checksum } = chunk
      const place = { packId: writer.pack.id, offset, encoding, storedBytes, checksum }
      const ofPack = this.#moved.get(from.id) ?? new Map<number, Place>()
      this.#moved.set(from.id, ofPack.set(oldOffset, place))
      offset += CHUNK_HEADER_BYTES + storedBytes
    }
    this.#buffered = 0
    this.#chunks = []
  }

  async #writer(lengthBytes: number): Promise<PackWriter> {
    const last = this.#writers.at(-1)
    if (last !== undefined && last.lengthBytes + lengthBytes <= PACK_BYTES_MAX) return last
    const writer = await this.#parts.packs.create()
    this.#writers.push(writer)
    return writer
  }

  /** Imports that run may share the chunks where they are now. */
  async #announce(): Promise<void> {
    const session = await this.#parts.session()
    for (const { pack, entries } of this.#writers) {
      // Before any version names it: from now on it stays until a later run.
      pack.isNew = false
      session?.addPack(pack, entries)
    }
  }

  /** Returns packs that versions still name, for chunks that were not live when it was looked. */
  async #exchangeAll(taken: ReadonlySet<string>): Promise<ReadonlySet<string>> {
    const named = new Set<string>()
    const { folders, refreshReaders } = this.#parts
    for (const versionId of await folders.list()) {
      const isChanged = await folders.change(() => this.#exchange(versionId, taken, named))
      if (isChanged) await refreshReaders(versionId)
    }
    return named
  }

  async #exchange(
    versionId: string,
    taken: ReadonlySet<string>,
    named: Set<string>,
  ): Promise<boolean> {
    const { folders } = this.#parts
    try {
      const { packIds } = await folders.readHead(versionId)
      if (!packIds.some((packId) => taken.has(packId))) return false
      const places = await folders.readPlaces(versionId)
      await this.#moveChunks(places, taken, named)
      await folders.writePlaces(versionId, places)
      return true
    } catch (error) {
      // Removed meanwhile.
      if (isMissing(error)) return false
      throw error
    }
  }

  async #moveChunks(
    places: PlaceTable,
    taken: ReadonlySet<string>,
    named: Set<string>,
  ): Promise<void> {
    const packs = places.packIds.map((packId) => (taken.has(packId) ? packId : undefined))
    for (let index = 0; index < places.count; index += 1) {
      if (index % CHUNKS_AT_ONCE === 0) await yieldThread()
      const number = places.packNumber(index)
      const packId = number === undefined ? undefined : packs[number]
      if (packId === undefined) continue
      const place = this.#moved.get(packId)?.get(places.offset(index))
      if (place === undefined) named.add(packId)
      else places.set(index, place)
    }
  }
}

/** Synchronous: nobody can begin to hold the pack in between. */
function take(pack: Pack, startedAt: number): boolean {
  if (!isFree(pack) || pack.lastCommit > startedAt) return false
  pack.isLeaving = true
  return true
}

function isFree({ users, isNew, isLeaving, writer }: Pack): boolean {
  return users === 0 && !isNew && !isLeaving && writer === undefined
}

function add(
  report: { removedChunks: number; removedBytes: number },
  chunks: number,
  bytes: number,
) {
  report.removedChunks += chunks
  report.removedBytes += bytes
}
