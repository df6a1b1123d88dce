/**
 * Receives an image and stores it as a version: spans go to the workers as they fill up and come back
 * as leaves and places, in order. What is in memory at once the pool bounds, but for the span that is
 * filling up and 19 bytes for each chunk.
 */
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { ZERO_HASH } from '#shared/manifest/content-hash.ts'
import { LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { bytesOfBlocks, SPAN_BLOCKS, VDISK_BYTES_MAX } from '#shared/manifest/tree-shape.ts'
import { CUT_TODAY, encodeVersionRoot, versionIdOf } from '#shared/manifest/version-root.ts'
import { formatBytes } from '#shared/units.ts'
import type { CommittedVersion, VersionWriter } from '../chunk-store.ts'
import type { Pack } from '../packs/pack.ts'
import { PACK_BYTES_MAX, type PackedChunk } from '../packs/pack-format.ts'
import type { PackSet } from '../packs/pack-set.ts'
import type { PackWriter } from '../packs/pack-writer.ts'
import type { NewFile } from '../store-disk.ts'
import { NodesWriter } from '../versions/nodes-file.ts'
import { PlaceTable } from '../versions/place-table.ts'
import { TreeBuilder } from '../versions/tree-builder.ts'
import type { ImportSession, ReplacedChunk } from './import-session.ts'
import { type ImportedSpan, SpanImport } from './span-import.ts'
import { SPAN_BYTES } from './span-pool.ts'

/** A version whose data is durable, ready to be made visible. */
export interface FinishedVersion {
  readonly versionId: string
  readonly record: Uint8Array
  readonly places: PlaceTable
  readonly sizeBytes: number
  /** Damaged chunks that were stored anew. */
  readonly replaced: readonly ReplacedChunk[]
}

export interface ImportOptions {
  readonly session: ImportSession
  readonly packs: PackSet
  /** The file of the version's nodes, made for it; the writer closes it. */
  readonly nodes: NewFile
  /** Makes it visible. */
  readonly publish: (version: FinishedVersion, held: ReadonlySet<Pack>) => Promise<void>
  /** Removes what nobody will see. Called once, after `publish` or in place of it. */
  readonly end: (held: ReadonlySet<Pack>) => Promise<void>
}

export class ImportWriter implements VersionWriter {
  readonly #options: ImportOptions
  readonly #nodes: NodesWriter
  readonly #tree = new TreeBuilder()
  readonly #places = new PlaceTable(0)
  readonly #held = new Set<Pack>()
  readonly #replaced: ReplacedChunk[] = []
  /** The pack being appended to, and those that are full. */
  #pack: PackWriter | undefined
  /** The span that fills up: how far, whether with anything but zeros, and where. */
  #filledBytes = 0
  #memory: SharedArrayBuffer | undefined
  #sizeBytes = 0
  #sharedBytes = 0
  #lastWritten: Promise<unknown> = Promise.resolve()
  #lastPlaced: Promise<void> = Promise.resolve()
  #failure: { readonly error: unknown } | undefined
  #state: 'open' | 'committing' | 'committed' | 'aborted' = 'open'
  #spans = 0

  constructor(options: ImportOptions) {
    this.#options = options
    this.#nodes = new NodesWriter(options.nodes)
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#assertOpen(bytes.length)
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + SPAN_BYTES - this.#filledBytes)
      new Uint8Array(this.#spanMemory()).set(part, this.#filledBytes)
      at += part.length
      await this.#filled(part.length)
    }
  }

  async appendZeros(lengthBytes: number): Promise<void> {
    this.#assertOpen(lengthBytes)
    for (let left = lengthBytes; left > 0; ) {
      const wholeSpans = this.#filledBytes > 0 ? 0 : Math.floor(left / SPAN_BYTES)
      if (wholeSpans > 0) {
        this.#addZeroSpans(wholeSpans)
        left -= wholeSpans * SPAN_BYTES
        continue
      }
      const part = Math.min(left, SPAN_BYTES - this.#filledBytes)
      if (this.#memory !== undefined) {
        new Uint8Array(this.#memory, this.#filledBytes, part).fill(0)
      }
      left -= part
      await this.#filled(part)
    }
  }

  async commit(): Promise<CommittedVersion> {
    this.#assertOpen(0)
    this.#state = 'committing'
    try {
      const finished = await this.#finish()
      await this.#options.publish(finished, this.#held)
      this.#state = 'committed'
      const { versionId, sizeBytes, places, replaced } = finished
      return {
        versionId,
        sizeBytes,
        storedBytes: places.totalStoredBytes,
        sharedBytes: this.#sharedBytes,
        mendedChunks: replaced.length,
      }
    } finally {
      await this.#end()
    }
  }

  async abort(): Promise<void> {
    if (this.#state !== 'open') return
    this.#state = 'aborted'
    await this.#end()
  }

  async #finish(): Promise<FinishedVersion> {
    if (this.#sizeBytes === 0) {
      throw new BootwireError('IMAGE_EMPTY', 'Cannot store an image of 0 bytes')
    }
    if (this.#filledBytes > 0) await this.#submit()
    await this.#lastPlaced
    this.#throwFailure()
    const { nodes, rootHash } = this.#tree.finish()
    for (const node of nodes) await this.#nodes.add(node)
    await this.#nodes.finish()
    await this.#options.nodes.sync()
    // Packs of other imports, too: what this version shares must be as durable as it is.
    await Promise.all([...this.#held].map(async (pack) => await pack.writer?.seal()))
    const sizeBytes = this.#sizeBytes
    const record = encodeVersionRoot({ sizeBytes, cut: CUT_TODAY, rootHash })
    const versionId = versionIdOf(record)
    const places = this.#places
    return { versionId, record, places, sizeBytes, replaced: this.#replaced }
  }

  async #end(): Promise<void> {
    // Nothing of this import may still be under way when its packs are given back.
    await Promise.allSettled([this.#lastWritten, this.#lastPlaced])
    if (this.#memory !== undefined) this.#options.session.pool.giveMemory(this.#memory)
    this.#memory = undefined
    await this.#options.nodes.close()
    await this.#options.end(this.#held)
  }

  #spanMemory(): SharedArrayBuffer {
    if (this.#memory === undefined) {
      this.#memory = this.#options.session.pool.takeMemory()
      // What came before in this span were zeros.
      new Uint8Array(this.#memory, 0, this.#filledBytes).fill(0)
    }
    return this.#memory
  }

  async #filled(lengthBytes: number): Promise<void> {
    this.#filledBytes += lengthBytes
    this.#sizeBytes += lengthBytes
    if (this.#filledBytes === SPAN_BYTES) await this.#submit()
  }

  /** All at once: an empty disk of terabytes has many. */
  #addZeroSpans(count: number): void {
    this.#sizeBytes += count * SPAN_BYTES
    this.#spans += count
    this.#lastPlaced = this.#lastPlaced.then(() => this.#tree.addZeroLeaves(count))
  }

  async #submit(): Promise<void> {
    const memory = this.#memory
    const lengthBytes = this.#filledBytes
    this.#memory = undefined
    this.#filledBytes = 0
    const position = this.#spans
    this.#spans += 1
    const span = memory && (await this.#start(memory, lengthBytes))
    this.#lastPlaced = this.#inOrder(position, span)
    this.#throwFailure()
  }

  async #start(memory: SharedArrayBuffer, lengthBytes: number): Promise<SpanImport> {
    const { session } = this.#options
    const job = await session.pool.begin()
    const span = new SpanImport({
      session,
      owner: {
        hold: (pack) => this.#hold(pack),
        append: (records, chunks) => this.#append(records, chunks),
        replaced: (chunk) => this.#replaced.push(chunk),
      },
      job,
      memory,
      lengthBytes,
      rawBytes: (firstBlock, blocks) => bytesOfBlocks(lengthBytes, firstBlock, blocks),
      previous: this.#lastWritten,
    })
    this.#lastWritten = span.whenWritten.catch((error: unknown) => this.#fail(error))
    return span
  }

  /** Adds a span's leaf and places behind those of the spans before. */
  async #inOrder(position: number, span: SpanImport | undefined): Promise<void> {
    const previous = this.#lastPlaced
    try {
      const imported = await span?.result
      await previous
      if (this.#failure !== undefined) return
      if (imported === undefined) this.#tree.addLeaf(ZERO_HASH)
      else await this.#add(position, imported)
    } catch (error) {
      this.#fail(error)
    }
  }

  async #add(position: number, { cut, places, sharedBytes }: ImportedSpan): Promise<void> {
    for (const [index, place] of places.entries()) {
      const firstBlock = position * SPAN_BLOCKS + (cut.firstBlocks[index] ?? 0)
      this.#places.add({ firstBlock, blocks: cut.blocks[index] ?? 0 }, place)
    }
    this.#sharedBytes += sharedBytes
    this.#tree.addLeaf(cut.leaf.length === 0 ? ZERO_HASH : cut.leafHash)
    if (cut.leaf.length === 0) return
    await this.#nodes.add({ level: LEAF_LEVEL, position, bytes: cut.leaf })
  }

  #hold(pack: Pack): void {
    if (this.#held.has(pack)) return
    this.#held.add(pack)
    pack.users += 1
  }

  async #append(records: Uint8Array, chunks: readonly PackedChunk[]) {
    const full = this.#pack && this.#pack.lengthBytes + records.length > PACK_BYTES_MAX
    // It goes on while the next one is filled; `commit` waits for it.
    if (full) void this.#pack?.seal()
    if (this.#pack?.isOpen !== true) {
      this.#pack = await this.#options.packs.create()
      this.#hold(this.#pack.pack)
    }
    const { pack } = this.#pack
    return { pack, offset: await this.#pack.append(records, chunks) }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }

  #assertOpen(lengthBytes: number): void {
    invariant(this.#state === 'open', `the version is ${this.#state}`)
    this.#throwFailure()
    if (this.#sizeBytes + lengthBytes <= VDISK_BYTES_MAX) return
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot store an image of more than ${formatBytes(VDISK_BYTES_MAX)}`,
    )
  }
}
