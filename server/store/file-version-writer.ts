/**
 * Writes one version: bytes are gathered into batches, encoded by worker threads, and written in the
 * order of the vDisk.
 *
 * One producer calls `append` and `appendZeros` one after the other. A batch is on its way from
 * `#submit` until it is written; at most `#batchesMax` are, which bounds memory and slows the producer
 * to what the disk takes. The first failure is kept and thrown at every later call.
 */
import { hash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { invariant } from '#shared/invariant.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'
import { ChunkEncoderPool } from './chunk-encoder-pool.ts'
import type { EncodedBatch } from './chunk-encoder-worker.ts'
import type { CommittedVersion, VersionWriter } from './chunk-store.ts'
import { namingFullFolder } from './store-full.ts'
import { type EncodedChunk, HASH_BYTES, IndexBuilder } from './version-index.ts'

/** Chunks per batch: one message to a worker and one write to the disk per MiB. */
const BATCH_CHUNKS = 16

export interface FileVersionWriterOptions {
  /** A folder of its own, which the writer fills and `publish` moves away. */
  readonly folder: string
  readonly chunkBytes: number
  /** Makes the folder's files visible as a version. */
  readonly publish: (versionId: string, index: Uint8Array) => Promise<void>
  /** Removes the folder with all that is in it. */
  readonly discard: () => Promise<void>
}

export class FileVersionWriter implements VersionWriter {
  readonly #options: FileVersionWriterOptions
  readonly #data: FileHandle
  readonly #pool = new ChunkEncoderPool()
  readonly #batchesMax: number
  readonly #index: IndexBuilder
  readonly #zeroChunkHash: Uint8Array
  readonly #underway: Promise<void>[] = []
  #batch: Uint8Array<ArrayBuffer>
  #batchLength = 0
  #sizeBytes = 0
  #state: 'open' | 'committed' | 'aborted' = 'open'

  private constructor(options: FileVersionWriterOptions, data: FileHandle) {
    this.#options = options
    this.#data = data
    this.#index = new IndexBuilder(options.chunkBytes)
    this.#batch = this.#newBatch()
    // Each worker has one in hand and one to go on with.
    this.#batchesMax = this.#pool.workerCount * 2
    this.#zeroChunkHash = hash('sha256', new Uint8Array(options.chunkBytes), 'buffer')
  }

  static async create(options: FileVersionWriterOptions): Promise<FileVersionWriter> {
    const data = await open(`${options.folder}/data`, 'wx')
    return new FileVersionWriter(options, data)
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#assertOpen()
    this.#sizeBytes += bytes.length
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + this.#batch.length - this.#batchLength)
      this.#batch.set(part, this.#batchLength)
      this.#batchLength += part.length
      at += part.length
      if (this.#batchLength === this.#batch.length) await this.#submit()
    }
  }

  async appendZeros(lengthBytes: number): Promise<void> {
    this.#assertOpen()
    const { chunkBytes } = this.#options
    const begun = this.#batchLength % chunkBytes
    const head = begun === 0 ? 0 : Math.min(lengthBytes, chunkBytes - begun)
    await this.append(new Uint8Array(head))
    const wholeChunks = Math.floor((lengthBytes - head) / chunkBytes)
    if (wholeChunks > 0) await this.#appendZeroChunks(wholeChunks)
    await this.append(new Uint8Array(lengthBytes - head - wholeChunks * chunkBytes))
  }

  async commit(): Promise<CommittedVersion> {
    this.#assertOpen()
    try {
      if (this.#batchLength > 0) await this.#submit()
      await Promise.all(this.#underway)
      const { versionId, index } = this.#index.finish(this.#sizeBytes)
      await this.#inFolder(() => this.#data.sync())
      await this.#close()
      await this.#inFolder(() => this.#options.publish(versionId, index))
      this.#state = 'committed'
      return { versionId, sizeBytes: this.#sizeBytes, storedBytes: this.#index.storedBytes }
    } catch (error) {
      await this.abort()
      throw error
    }
  }

  async abort(): Promise<void> {
    if (this.#state !== 'open') return
    this.#state = 'aborted'
    await this.#close()
    await this.#options.discard()
  }

  async #appendZeroChunks(count: number): Promise<void> {
    if (this.#batchLength > 0) await this.#submit()
    const previous = this.#underway.at(-1)
    const chunk = {
      encoding: CHUNK_ENCODING.zero,
      storedBytes: 0,
      checksum: 0,
      contentHash: this.#zeroChunkHash,
    }
    await this.#follow(async () => {
      await previous
      for (let added = 0; added < count; added += 1) this.#index.add(chunk)
    })
    this.#sizeBytes += count * this.#options.chunkBytes
  }

  /** Sends the batch on its way, and waits while too many are. */
  async #submit(): Promise<void> {
    const previous = this.#underway.at(-1)
    const encoding = this.#pool.encode(
      this.#batch.subarray(0, this.#batchLength),
      this.#options.chunkBytes,
    )
    this.#batch = this.#newBatch()
    this.#batchLength = 0
    await this.#follow(async () => {
      const [batch] = await Promise.all([encoding, previous])
      await this.#write(batch)
    })
  }

  async #follow(step: () => Promise<void>): Promise<void> {
    const done = step()
    // Whoever awaits it next sees the failure; until then it is not unhandled.
    done.catch(() => undefined)
    this.#underway.push(done)
    while (this.#underway.length > this.#batchesMax) {
      await this.#underway[0]
      void this.#underway.shift()
    }
  }

  async #write(batch: EncodedBatch): Promise<void> {
    if (this.#state === 'aborted') return
    const position = this.#index.storedBytes
    for (const chunk of chunksOf(batch)) this.#index.add(chunk)
    await this.#inFolder(async () => {
      for (let at = 0; at < batch.data.length; ) {
        const rest = batch.data.subarray(at)
        at += (await this.#data.write(rest, 0, rest.length, position + at)).bytesWritten
      }
    })
  }

  async #close(): Promise<void> {
    await this.#pool.close()
    await Promise.allSettled(this.#underway)
    await this.#data.close()
  }

  #newBatch(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(BATCH_CHUNKS * this.#options.chunkBytes)
  }

  #inFolder<T>(work: () => Promise<T>): Promise<T> {
    return namingFullFolder(dirname(this.#options.folder), work)
  }

  #assertOpen(): void {
    invariant(this.#state === 'open', `the version is ${this.#state}`)
  }
}

function* chunksOf(batch: EncodedBatch): Generator<EncodedChunk> {
  for (let index = 0; index < batch.encodings.length; index += 1) {
    yield {
      encoding: batch.encodings[index] as EncodedChunk['encoding'],
      storedBytes: batch.storedLengths[index] ?? 0,
      checksum: batch.checksums[index] ?? 0,
      contentHash: batch.contentHashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES),
    }
  }
}
