/**
 * One span of an import on its way: cut and hashed by a worker, decided on here, encoded by the same
 * worker, appended to a pack. Deciding is synchronous, so two imports never both store a chunk.
 *
 * `whenWritten` does not wait for what other spans store, `result` does: so spans can wait for each
 * other's chunks in any direction.
 */
import { invariant } from '#shared/invariant.ts'
import { HASH_BYTES } from '#shared/manifest/content-hash.ts'
import type { ChunkEncoding } from '#shared/wire/frame.ts'
import type { FoundChunk } from '../packs/chunk-index.ts'
import type { Pack } from '../packs/pack.ts'
import { CHUNK_HEADER_BYTES, type PackedChunk } from '../packs/pack-format.ts'
import type { Place } from '../versions/place-table.ts'
import type { ComingChunk, ImportSession, PackHolder, ReplacedChunk } from './import-session.ts'
import type { SpanJob } from './span-pool.ts'
import {
  CHUNK_FATE,
  CHUNK_OUTCOME,
  type CutAnswer,
  type StoreAnswer,
} from './span-worker-messages.ts'

/** The import a span belongs to. */
export interface SpanOwner extends PackHolder {
  /** Appends records to the import's pack, which it holds; returns where they begin. */
  append(
    records: Uint8Array,
    chunks: readonly PackedChunk[],
  ): Promise<{ readonly pack: Pack; readonly offset: number }>
  /** A damaged chunk was found, and stored anew. */
  replaced(chunk: ReplacedChunk): void
}

export interface SpanInput {
  readonly session: ImportSession
  readonly owner: SpanOwner
  readonly job: SpanJob
  readonly memory: SharedArrayBuffer
  readonly lengthBytes: number
  /** Length of a chunk of this span once decoded. */
  readonly rawBytes: (firstBlock: number, blocks: number) => number
  /** Settles when the span before has been written: packs hold spans in order. */
  readonly previous: Promise<unknown>
}

/** What became of a span. */
export interface ImportedSpan {
  readonly cut: CutAnswer
  /** One per chunk. */
  readonly places: readonly Place[]
  /** Stored bytes of chunks that were in the store before. */
  readonly sharedBytes: number
}

/** A chunk of the span, and what is known of it by and by. */
interface SpanChunk {
  readonly hash: Buffer
  readonly firstBlock: number
  readonly blocks: number
  /** Set when somebody is storing it. */
  coming?: ComingChunk
  /** Set when it should lie in a pack. */
  found?: FoundChunk<Pack>
  place?: Place
  isNew: boolean
}

export class SpanImport {
  readonly #input: SpanInput
  #chunks: SpanChunk[] = []
  /** The pack the span's new chunks are in, once they are. */
  #pack: Pack | undefined
  /** Imports that wait for chunks of this span. */
  readonly #holders = new Set<PackHolder>()
  readonly whenWritten: Promise<CutAnswer>
  readonly result: Promise<ImportedSpan>

  constructor(input: SpanInput) {
    this.#input = input
    this.whenWritten = this.#run()
    this.result = this.whenWritten.then((cut) => this.#resolve(cut))
    // Whoever awaits it sees the failure; until then it is not unhandled.
    this.result.catch(() => undefined)
  }

  async #run(): Promise<CutAnswer> {
    const { session, job, memory, lengthBytes, previous } = this.#input
    using _ = { [Symbol.dispose]: () => this.#end() }
    const cut = await job.cut(memory, lengthBytes)
    const answer = await job.store(this.#decide(cut))
    await previous
    await this.#write(answer)
    session.pool.giveMemory(memory)
    session.pool.giveRecords(answer)
    return cut
  }

  /** What is stored is in the index by now; what is not will never come. */
  #end(): void {
    const { session, job } = this.#input
    for (const { hash, isNew } of this.#chunks) {
      if (isNew) session.coming.delete(keyOf(hash))
    }
    job.end()
  }

  /** Says what becomes of each chunk. Synchronous: see above. */
  #decide(cut: CutAnswer) {
    this.#chunks = Array.from(cut.blocks, (blocks, index) => ({
      hash: Buffer.from(cut.hashes.buffer, cut.hashes.byteOffset + index * HASH_BYTES, HASH_BYTES),
      firstBlock: cut.firstBlocks[index] ?? 0,
      blocks,
      isNew: false,
    }))
    const count = this.#chunks.length
    const fates = new Uint8Array(count)
    const packs = new Uint16Array(count)
    const offsets = new Uint32Array(count)
    const packPaths: string[] = []
    for (const [index, chunk] of this.#chunks.entries()) {
      fates[index] = this.#look(chunk)
      if (chunk.found === undefined) continue
      if (packPaths.at(-1) !== chunk.found.pack.path) packPaths.push(chunk.found.pack.path)
      packs[index] = packPaths.length - 1
      offsets[index] = chunk.found.offset
    }
    return { fates, packs, offsets, packPaths }
  }

  #look(chunk: SpanChunk): number {
    const { session, owner } = this.#input
    const key = keyOf(chunk.hash)
    const coming = session.coming.get(key)
    if (coming !== undefined) {
      coming.holdFor(owner)
      chunk.coming = coming
      return CHUNK_FATE.known
    }
    const found = session.index.find(...wordsOf(chunk.hash), isShareable)
    if (found !== undefined) {
      owner.hold(found.pack)
      chunk.found = found
      return CHUNK_FATE.verify
    }
    chunk.isNew = true
    session.coming.set(key, {
      holdFor: (holder) => this.#holdFor(holder),
      whenStored: () => this.whenWritten.then(() => placed(chunk)),
    })
    return CHUNK_FATE.store
  }

  #holdFor(holder: PackHolder): void {
    if (this.#pack === undefined) this.#holders.add(holder)
    else holder.hold(this.#pack)
  }

  async #write(answer: StoreAnswer): Promise<void> {
    const stored: (PackedChunk & { readonly chunk: SpanChunk })[] = []
    for (const [index, chunk] of this.#chunks.entries()) {
      if (chunk.coming !== undefined) continue
      const packed = this.#packed(chunk, index, answer)
      if (answer.outcomes[index] !== CHUNK_OUTCOME.verified) stored.push({ ...packed, chunk })
      else if (chunk.found) chunk.place = placeOf(chunk.found.pack, chunk.found.offset, packed)
    }
    if (stored.length === 0) return
    const { pack, offset } = await this.#input.owner.append(answer.records, stored)
    this.#pack = pack
    for (const holder of this.#holders) holder.hold(pack)
    let at = offset
    for (const { chunk, ...packed } of stored) {
      chunk.place = placeOf(pack, at, packed)
      this.#enter(chunk, { pack, offset: at })
      at += CHUNK_HEADER_BYTES + packed.storedBytes
    }
    for (const [index, chunk] of this.#chunks.entries()) {
      if (answer.outcomes[index] === CHUNK_OUTCOME.storedAnew) this.#replace(chunk)
    }
  }

  #packed(chunk: SpanChunk, index: number, answer: StoreAnswer): PackedChunk {
    return {
      hash: chunk.hash,
      rawBytes: this.#input.rawBytes(chunk.firstBlock, chunk.blocks),
      encoding: answer.encodings[index] as ChunkEncoding,
      storedBytes: answer.storedLengths[index] ?? 0,
      checksum: answer.checksums[index] ?? 0,
    }
  }

  #enter({ hash }: SpanChunk, where: FoundChunk<Pack>): void {
    this.#input.session.index.add(...wordsOf(hash), where)
  }

  #replace(chunk: SpanChunk): void {
    const { found } = chunk
    if (found === undefined) return
    const { session, owner } = this.#input
    session.index.drop(...wordsOf(chunk.hash), found)
    owner.replaced({ ...found, place: placed(chunk) })
  }

  async #resolve(cut: CutAnswer): Promise<ImportedSpan> {
    let sharedBytes = 0
    const places: Place[] = []
    for (const chunk of this.#chunks) {
      if (chunk.coming !== undefined) chunk.place = await chunk.coming.whenStored()
      const place = placed(chunk)
      // A chunk that was to be shared and had to be stored anew lies where it was not found.
      const isStored = chunk.isNew || (chunk.found && chunk.found.pack.id !== place.packId)
      if (isStored !== true) sharedBytes += place.storedBytes
      places.push(place)
    }
    return { cut, places, sharedBytes }
  }
}

function isShareable({ isLeaving }: Pack): boolean {
  return !isLeaving
}

function placed({ place }: SpanChunk): Place {
  invariant(place !== undefined, 'a chunk that is written has a place')
  return place
}

function placeOf(pack: Pack, offset: number, chunk: PackedChunk): Place {
  const { encoding, storedBytes, checksum } = chunk
  return { packId: pack.id, offset, encoding, storedBytes, checksum }
}

function keyOf(hash: Buffer): string {
  return hash.toString('latin1')
}

function wordsOf(hash: Buffer): [number, number] {
  return [hash.readUInt32BE(0), hash.readUInt32BE(4)]
}
