/**
 * Sends a chunk as its difference to what the client has: compressed by zstd with chunks of the
 * version before as a raw dictionary. Where they are looked for, until a difference is good enough:
 * - next: behind the base of the chunk before, since files move as a whole;
 * - similar: of all sampled values of a rolling hash a chunk's sketch has the least ones; the chunk
 *   that shares most of them.
 * The same place of the image is no rule: what it finds, these find.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { invariant } from '#shared/invariant.ts'
import type { Chunk } from './chunking-chunks.ts'
import { GEAR } from './chunking-cutters.ts'

/** Values in a sketch: chunks that share a tenth of their content meet in one of 16 with 80 %. */
const SKETCH_VALUES = 16

/** One byte in 64 is sampled: a chunk of 8 KiB still has some 128 samples. */
const SAMPLE_SHIFT = 32 - 6

/** Content that is everywhere (padding, licenses) says nothing about where a chunk comes from. */
const CHUNKS_PER_VALUE_MAX = 8

/** A base must save at least this part of the chunk's own compressed length: the client must have it. */
const WORTHWHILE_SAVING = 1 / 8

/** Begins a dictionary that zstd made itself; a chunk that begins so is none, and cannot be one. */
const DICTIONARY_MAGIC = 0xec30_a437

/** zstd takes no shorter one. */
const DICTIONARY_BYTES_MIN = 8

/** As the store compresses. */
const ZSTD_LEVEL = 3

/** A difference this much shorter than the compressed chunk is not looked further for. */
const GOOD_ENOUGH = 2 / 5

export type Rule = 'next' | 'similar'

export interface Delta {
  readonly chunk: Chunk
  /** Undefined where no base was worth it. */
  readonly rule: Rule | undefined
  /** One behind the other they are the dictionary. */
  readonly bases: readonly Chunk[]
  readonly encoded: Buffer
}

export function compress(bytes: Uint8Array, dictionary?: Uint8Array): Buffer {
  return zstdCompressSync(bytes, {
    params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL },
    ...(dictionary === undefined ? {} : { dictionary }),
  })
}

export function decompress(bytes: Uint8Array, length: number, dictionary?: Uint8Array): Buffer {
  // One piece of output, and a byte more, so that a longer one is noticed.
  const options = { chunkSize: length + 1, maxOutputLength: length + 1 }
  return zstdDecompressSync(bytes, dictionary === undefined ? options : { ...options, dictionary })
}

/** The version before, with the sketches of its chunks. */
export class BaseIndex {
  readonly #chunks: readonly Chunk[]
  readonly #neighbors: number
  readonly #byValue = new Map<number, number[]>()

  /** `neighbors`: how many chunks before and behind a base belong to the dictionary with it. */
  constructor(chunks: readonly Chunk[], neighbors: number) {
    this.#chunks = chunks
    this.#neighbors = neighbors
    const seen = new Set<string>()
    for (const [index, { id, bytes }] of chunks.entries()) {
      if (seen.has(id)) continue
      seen.add(id)
      for (const value of sketch(bytes)) this.#add(value, index)
    }
  }

  /** Encodes chunks of the next version, in the order of its image. */
  encodeAll(chunks: readonly Chunk[]): Delta[] {
    let lastBase: number | undefined
    return chunks.map((chunk) => {
      const { delta, baseIndex } = this.#encode(chunk, lastBase)
      lastBase = baseIndex
      return delta
    })
  }

  #encode(
    chunk: Chunk,
    lastBase: number | undefined,
  ): { readonly delta: Delta; readonly baseIndex: number | undefined } {
    const plain = compress(chunk.bytes)
    let delta: Delta = { chunk, rule: undefined, bases: [], encoded: plain }
    let baseIndex: number | undefined
    let limit = plain.length * (1 - WORTHWHILE_SAVING)
    for (const [rule, index] of this.#candidates(chunk, lastBase)) {
      const bases = this.#withNeighbors(index)
      const dictionary = dictionaryOf(bases)
      if (dictionary === undefined) continue
      const encoded = compress(chunk.bytes, dictionary)
      if (encoded.length >= limit) continue
      limit = encoded.length
      delta = { chunk, rule, bases, encoded }
      baseIndex = index
      if (limit <= plain.length * GOOD_ENOUGH) break
    }
    return { delta, baseIndex }
  }

  /** Indexes of bases; one that is not asked for any more costs nothing. */
  *#candidates(chunk: Chunk, lastBase: number | undefined): Generator<[Rule, number]> {
    const next = lastBase === undefined ? undefined : lastBase + 1
    if (next !== undefined && next < this.#chunks.length) yield ['next', next]
    const similar = this.#mostSimilar(chunk.bytes)
    if (similar !== undefined && similar !== next) yield ['similar', similar]
  }

  #withNeighbors(index: number): readonly Chunk[] {
    return this.#chunks.slice(Math.max(0, index - this.#neighbors), index + this.#neighbors + 1)
  }

  #mostSimilar(bytes: Uint8Array): number | undefined {
    const votes = new Map<number, number>()
    for (const value of sketch(bytes)) {
      for (const index of this.#byValue.get(value) ?? []) {
        votes.set(index, (votes.get(index) ?? 0) + 1)
      }
    }
    let best: number | undefined
    for (const [index, count] of votes) {
      if (best === undefined || count > (votes.get(best) ?? 0)) best = index
    }
    return best
  }

  #add(value: number, index: number): void {
    const indexes = this.#byValue.get(value)
    if (indexes === undefined) this.#byValue.set(value, [index])
    else if (indexes.length < CHUNKS_PER_VALUE_MAX) indexes.push(index)
  }
}

/** The least of the sampled hash values, each once, in ascending order. */
export function sketch(bytes: Uint8Array): Uint32Array {
  const values = new Uint32Array(SKETCH_VALUES).fill(0xffff_ffff)
  let greatest = 0xffff_ffff
  let gear = 0
  for (let at = 0; at < bytes.length; at += 1) {
    gear = ((gear << 1) + (GEAR[bytes[at] ?? 0] ?? 0)) | 0
    if (gear >>> SAMPLE_SHIFT !== 0) continue
    // Sampled values have the same high bits; multiplied by an odd number they are spread again.
    const value = Math.imul(gear, 0x9e37_79b1) >>> 0
    if (value < greatest) {
      insert(values, value)
      greatest = values[SKETCH_VALUES - 1] ?? 0
    }
  }
  return values.filter((value) => value !== 0xffff_ffff)
}

function insert(sorted: Uint32Array, value: number): void {
  let at = sorted.length - 1
  while (at > 0 && (sorted[at - 1] ?? 0) > value) at -= 1
  if (at > 0 && sorted[at - 1] === value) return
  sorted.copyWithin(at + 1, at, sorted.length - 1)
  sorted[at] = value
}

/** Undefined when zstd would not take the bytes as they are. */
export function dictionaryOf(bases: readonly Chunk[]): Buffer | undefined {
  const dictionary = Buffer.concat(bases.map(({ bytes }) => bytes))
  const isRaw = dictionary.length >= DICTIONARY_BYTES_MIN
  return isRaw && dictionary.readUInt32LE(0) !== DICTIONARY_MAGIC ? dictionary : undefined
}

/** What a client does with differences. @throws when one does not give the chunk it stands for */
export function decodeAll(deltas: readonly Delta[]): void {
  for (const { chunk, bases, encoded } of deltas) {
    const dictionary = bases.length === 0 ? undefined : dictionaryOf(bases)
    const decoded = decompress(encoded, chunk.bytes.length, dictionary)
    invariant(decoded.equals(chunk.bytes), `the difference of ${chunk.id} gives its bytes`)
  }
}
