/**
 * Verifies the store from both ends: each pack against its index and, as far as wanted, each chunk
 * against its hash; each version from its root record down to the places of its chunks.
 */
import type { CheckOptions, CheckProgress, CheckReport } from '../chunk-store.ts'
import { type Pack } from '../packs/pack.ts'
import { type IndexEntries, type IndexEntry } from '../packs/pack-format.ts'
import type { StoreParts } from '../store-parts.ts'
import { SpanPool } from '../writing/span-pool.ts'
import { DamageList } from './damage-list.ts'
import { type CheckedPack, checkPack } from './pack-check.ts'
import { type RepairOutcome, repairPacks, repairVersions } from './store-repair.ts'
import { checkVersion, type FoundVersion } from './version-check.ts'

/** Indexes in memory at once: of 4 GiB of chunks, 14 MB. */
const INDEXES_MAX = 16

export async function checkStore(
  parts: StoreParts,
  options: CheckOptions,
  onProgress: (progress: CheckProgress) => void,
  signal: AbortSignal,
): Promise<CheckReport> {
  const check = new StoreCheck(parts, options, onProgress, signal)
  return await check.run()
}

const NOTHING_REPAIRED = { repairs: [], incompleteIds: [] }

class StoreCheck {
  readonly #parts: StoreParts
  readonly #options: CheckOptions
  readonly #onProgress: (progress: CheckProgress) => void
  readonly #signal: AbortSignal
  readonly #damages = new DamageList()
  readonly #checked = new Map<string, Omit<CheckedPack, 'entries'>>()
  /** Of packs that were looked at last; those read from a damaged pack itself are kept. */
  readonly #entries = new Map<string, IndexEntries>()
  #doneBytes = 0
  #totalBytes = 0
  readonly #sums = { chunks: 0, storedBytes: 0, chunksRead: 0 }

  constructor(
    parts: StoreParts,
    options: CheckOptions,
    onProgress: (progress: CheckProgress) => void,
    signal: AbortSignal,
  ) {
    this.#parts = parts
    this.#options = options
    this.#onProgress = onProgress
    this.#signal = signal
  }

  async run(): Promise<CheckReport> {
    const { packs, folders } = this.#parts
    const sealed = packs.list().filter(({ writer, isLeaving }) => !writer && !isLeaving)
    const bytes = await Promise.all(sealed.map((pack) => packs.packBytes(pack)))
    this.#totalBytes = bytes.reduce((sum, each) => sum + each, 0)
    await using pool = closing(new SpanPool())
    for (const pack of sealed) await this.#checkPack(pack, pool.pool, this.#options.readDataShare)
    const versions: FoundVersion[] = []
    for (const versionId of await folders.list()) {
      this.#signal.throwIfAborted()
      versions.push(await this.#checkVersion(versionId, pool.pool))
    }
    const outcome = this.#options.repair ? await this.#repair(versions) : NOTHING_REPAIRED
    const damages = this.#damages.list()
    return { versions: versions.length, ...this.#sums, damages, ...outcome }
  }

  async #checkPack(pack: Pack, pool: SpanPool, readDataShare: number): Promise<void> {
    const { entries, ...checked } = await checkPack(pack, {
      packs: this.#parts.packs,
      pool,
      readDataShare,
      repair: this.#options.repair,
      signal: this.#signal,
      onBytes: (bytes) => this.#progress(bytes),
    })
    this.#checked.set(pack.id, checked)
    this.#keep(pack.id, entries)
    this.#sums.chunks += entries.count
    this.#sums.chunksRead += checked.chunksRead
    for (let index = 0; index < entries.count; index += 1) {
      this.#sums.storedBytes += entries.get(index).storedBytes
    }
    this.#notePack(pack, checked)
  }

  #notePack(pack: Pack, { packFault, indexFault, damaged }: Omit<CheckedPack, 'entries'>): void {
    if (packFault !== undefined) {
      this.#damages.add(pack.id, `Pack "${pack.path}" cannot be used: ${packFault}`)
    }
    if (indexFault !== undefined) this.#damages.add(`index ${pack.id}`, indexFault)
    for (const [offset, why] of damaged) {
      this.#damages.add(placeKey(pack.id, offset), chunkText(pack.path, offset, why))
    }
  }

  async #checkVersion(versionId: string, pool: SpanPool): Promise<FoundVersion> {
    const check = await checkVersion(versionId, {
      parts: this.#parts,
      look: (packId, offset) => this.#look(packId, offset, pool),
      onDamage: (packId, offset, why) => this.#noteChunk(versionId, packId, offset, why),
      signal: this.#signal,
    })
    const { root, signature, nodes, places, lost } = check.faults
    const say = (part: string, text: string | undefined) => {
      if (text === undefined) return
      this.#damages.add(`${part} ${versionId}`, `Version ${versionId}: ${text}`, versionId)
    }
    say('root', root)
    say('signature', signature)
    say('nodes', nodes)
    say('places', places)
    if (lost > 0) say('lost', `${lost} of its chunks were damaged and are no longer there`)
    return { versionId, ...check }
  }

  #noteChunk(versionId: string, packId: string, offset: number, why: string): void {
    const checked = this.#checked.get(packId)
    if (checked?.isUnreadable === true && this.#damages.blame(packId, versionId)) return
    const path = this.#parts.layout.pack(packId)
    this.#damages.add(placeKey(packId, offset), chunkText(path, offset, why), versionId)
  }

  async #look(
    packId: string,
    offset: number,
    pool: SpanPool,
  ): Promise<IndexEntry | { readonly damage: string }> {
    const entries = this.#entries.get(packId) ?? (await this.#load(packId, pool))
    const why = this.#checked.get(packId)?.damaged.get(offset)
    if (why !== undefined) return { damage: why }
    const index = entries.indexOf(offset)
    return index < 0 ? { damage: 'its index has no chunk there' } : entries.get(index)
  }

  async #load(packId: string, pool: SpanPool): Promise<IndexEntries> {
    const { packs } = this.#parts
    const pack = packs.get(packId) ?? packs.missing(packId)
    if (!this.#checked.has(packId)) {
      // Made since the check began, or not there.
      await this.#checkPack(pack, pool, 0)
    } else {
      const entries = await packs.readIndex(pack)
      this.#keep(packId, entries)
    }
    return this.#entries.get(packId) ?? (await packs.readIndex(pack))
  }

  #keep(packId: string, entries: IndexEntries): void {
    this.#entries.delete(packId)
    this.#entries.set(packId, entries)
    for (const [id] of this.#entries) {
      if (this.#entries.size <= INDEXES_MAX) return
      const checked = this.#checked.get(id)
      const isReadable = checked?.indexFault === undefined && checked?.packFault === undefined
      if (isReadable && id !== packId) this.#entries.delete(id)
    }
  }

  async #repair(versions: readonly FoundVersion[]): Promise<RepairOutcome> {
    const outcome = { repairs: [], incompleteIds: [] }
    const isDamaged = (packId: string, offset: number) =>
      this.#damages.has(placeKey(packId, offset)) || this.#isGone(packId)
    await repairPacks(this.#checked.values(), this.#entries, this.#parts, outcome)
    await repairVersions(versions, isDamaged, this.#parts, outcome, this.#signal)
    return outcome
  }

  #isGone(packId: string): boolean {
    return this.#checked.get(packId)?.isGone === true
  }

  #progress(bytes: number): void {
    this.#doneBytes += bytes
    const totalBytes = Math.max(this.#totalBytes, this.#doneBytes)
    this.#onProgress({ doneBytes: this.#doneBytes, totalBytes })
  }
}

function placeKey(packId: string, offset: number): string {
  return `${packId}@${offset}`
}

function chunkText(path: string, offset: number, why: string): string {
  return `The chunk in "${path}" at byte ${offset} is damaged: ${why}`
}

function closing(pool: SpanPool) {
  return { pool, [Symbol.asyncDispose]: () => pool.close() }
}
