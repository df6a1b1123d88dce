/**
 * Node's own zstd encoder with one context for all chunks: two to three times the rate of
 * `zstdCompressSync`, which makes a context per call. It stands on internal names of Node
 * (`_handle.writeSync`, `_writeState` of a zlib stream), as nothing else in the server does; where they
 * are not what they were in Node 24, the public way is taken.
 */
import { constants, createZstdCompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { KiB } from '#shared/units.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

/** 2.85:1 on system images; higher levels cost ten times the time for 5 %. */
const ZSTD_LEVEL = 3

/** Tables that fit a core's cache: 7 % faster than the level's own, for 0.1 % more bytes. */
const PARAMS = {
  [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL,
  [constants.ZSTD_c_hashLog]: 15,
  [constants.ZSTD_c_chainLog]: 14,
}

/**
 * More than any chunk comes to (ZSTD_COMPRESSBOUND). With less room a frame takes several calls, and
 * where it ends just where the room does, Node 24 puts an empty frame behind it.
 */
export const ENCODED_BYTES_MAX: number = CHUNK_BYTES_MAX + KiB

export interface ZstdEncoder {
  /** Writes one frame into `ENCODED_BYTES_MAX` of the target and returns its length. */
  encode(chunk: Uint8Array, target: Uint8Array, at: number): number
}

export function createZstdEncoder(): ZstdEncoder {
  try {
    const encoder = new InternalEncoder()
    encoder.test()
    return encoder
  } catch {
    return PUBLIC_ENCODER
  }
}

/** Whatever Node this is. */
export const PUBLIC_ENCODER: ZstdEncoder = {
  encode: (chunk, target, at) => {
    const frame = zstdCompressSync(chunk, { params: PARAMS, chunkSize: ENCODED_BYTES_MAX })
    target.set(frame, at)
    return frame.length
  },
}

interface Handle {
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void
  onerror: (message: string) => void
}

class InternalEncoder implements ZstdEncoder {
  readonly #handle: Handle
  /** Bytes left of output and input after a call. */
  readonly #state: Uint32Array
  #error: string | undefined

  constructor() {
    const stream: unknown = createZstdCompress({ params: PARAMS })
    const { _handle: handle, _writeState: state } = stream as {
      readonly _handle: Handle
      readonly _writeState: Uint32Array
    }
    handle.onerror = (message) => {
      this.#error = message
    }
    this.#handle = handle
    this.#state = state
  }

  /** The context is ready for the next frame when one has ended; `reset` would lose the level. */
  encode(chunk: Uint8Array, target: Uint8Array, at: number): number {
    const room = ENCODED_BYTES_MAX
    this.#handle.writeSync(constants.ZSTD_e_end, chunk, 0, chunk.length, target, at, room)
    const [outputLeft, inputLeft] = this.#state
    if (this.#error !== undefined || inputLeft !== 0 || !outputLeft) {
      throw new Error(`zstd did not encode a chunk: ${this.#error ?? 'it has no room'}`)
    }
    return room - outputLeft
  }

  /** Encodes twice what Node then decodes. @throws when anything differs */
  test(): void {
    for (const text of ['bootwire', 'boot']) {
      const chunk = Buffer.alloc(8192, text)
      const target = Buffer.alloc(ENCODED_BYTES_MAX + 16)
      const frame = target.subarray(16, 16 + this.encode(chunk, target, 16))
      if (zstdDecompressSync(frame).compare(chunk) !== 0) throw new Error('wrong bytes')
      if (PUBLIC_ENCODER.encode(chunk, Buffer.alloc(ENCODED_BYTES_MAX), 0) !== frame.length) {
        throw new Error('another level')
      }
    }
  }
}
