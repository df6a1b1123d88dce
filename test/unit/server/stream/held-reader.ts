/** A version whose reads end when the test says so. Chunks are of one block; block 1 is zero. */
import type { ChunkTable, StoredObject, VersionReader } from '#server/store/chunk-store.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { CHUNK_ENCODING, CHUNK_LEVEL, type ObjectName } from '#shared/wire/frame.ts'

const BLOCKS = 5000
const ZERO_BLOCK = 1

export class HeldReader implements VersionReader {
  readonly versionId = 'a'.repeat(64)
  readonly signedRoot = {
    record: new Uint8Array(64),
    signature: new Uint8Array(64),
    signerKey: new Uint8Array(91),
  }
  readonly sizeBytes = BLOCKS * BLOCK_BYTES
  readonly storedBytes = 1000
  readonly chunks: ChunkTable
  /** Objects whose read has begun, as `level/position`. */
  readonly started: string[] = []
  readonly #ends = new Map<string, (error?: Error) => void>()

  /** `storedBytes`: of every chunk and node. */
  constructor(storedBytes = 100) {
    this.chunks = {
      count: BLOCKS - 1,
      firstBlock: (index) => (index < ZERO_BLOCK ? index : index + 1),
      blocks: () => 1,
      storedBytes: () => storedBytes,
      indexAt: (block) => (block === ZERO_BLOCK ? -1 : block - (block > ZERO_BLOCK ? 1 : 0)),
    }
  }

  readObject({ level, position }: ObjectName, target: Uint8Array): Promise<StoredObject> {
    const key = `${level}/${position}`
    this.started.push(level === CHUNK_LEVEL ? String(position) : key)
    const storedBytes = this.chunks.storedBytes(0)
    const { promise, resolve, reject } = Promise.withResolvers<StoredObject>()
    this.#ends.set(key, (error) => {
      if (error !== undefined) return reject(error)
      target.fill(position & 0xff, 0, storedBytes)
      const rawBytes = Math.max(BLOCK_BYTES, storedBytes)
      resolve({ encoding: CHUNK_ENCODING.zstd, position, rawBytes, storedBytes })
    })
    return promise
  }

  /** Ends the reads of these chunks, or of nodes given as `level/position`. */
  async end(...names: (number | string)[]): Promise<void> {
    for (const name of names) this.#ends.get(keyOf(name))?.()
    await new Promise(setImmediate)
    await new Promise(setImmediate)
  }

  async fail(name: number | string, error: Error): Promise<void> {
    this.#ends.get(keyOf(name))?.(error)
    await new Promise(setImmediate)
    await new Promise(setImmediate)
  }

  async endAll(): Promise<void> {
    for (let ended = 0; ended < this.started.length; ended += 1) {
      await this.end(this.started[ended] ?? 0)
    }
  }

  async readHashes(): Promise<Uint8Array> {
    return new Uint8Array(32 * this.chunks.count)
  }

  async close(): Promise<void> {
    // Nothing is open.
  }
}

function keyOf(name: number | string): string {
  return typeof name === 'string' && name.includes('/') ? name : `${CHUNK_LEVEL}/${name}`
}
