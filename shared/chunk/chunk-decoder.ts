/** Decodes objects as they are stored and sent straight into the memory they stay in. */
import { constants, zstdDecompressSync } from 'node:zlib'
import { BootwireError } from '#shared/errors.ts'
import { CHUNK_ENCODING, type ChunkEncoding } from '#shared/wire/frame.ts'
import { createZstdHandle, ZSTD_WINDOW_LOG_MAX, type ZstdHandle } from './zstd-handle.ts'

/** How a payload is to be decoded, and how long it is then. */
export interface Encoded {
  readonly encoding: ChunkEncoding
  readonly rawBytes: number
}

export class ChunkDecoder {
  readonly #zstd: ZstdHandle

  /** `zstd` is only given by tests. */
  constructor(zstd: ZstdHandle = createZstdHandle() ?? publicZstd) {
    this.#zstd = zstd
  }

  /**
   * Fills exactly `encoded.rawBytes` bytes of the target from the offset on. After an error they hold
   * anything.
   * @throws {BootwireError} CHUNK_CORRUPT when the payload is damaged or of another length
   */
  decode(encoded: Encoded, payload: Uint8Array, target: Uint8Array, offset: number): void {
    const length = encoded.rawBytes
    switch (encoded.encoding) {
      case CHUNK_ENCODING.raw:
        if (payload.length !== length) throw corrupt(length, `it has ${payload.length}`)
        target.set(payload, offset)
        return
      case CHUNK_ENCODING.zstd:
        try {
          this.#zstd.decode(payload, target, offset, length)
        } catch (cause) {
          throw corrupt(length, cause instanceof Error ? cause.message : String(cause), cause)
        }
    }
  }
}

/** The same in the public way, with a buffer per chunk. */
export const publicZstd: ZstdHandle = {
  decode(frame, target, offset, length) {
    const bytes = zstdDecompressSync(frame, {
      chunkSize: Math.max(length, constants.Z_MIN_CHUNK),
      maxOutputLength: length,
      params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
    })
    if (bytes.length !== length) throw new Error('it is shorter')
    target.set(bytes, offset)
  },
}

function corrupt(length: number, why: string, cause?: unknown): BootwireError {
  return new BootwireError('CHUNK_CORRUPT', `Cannot decode a chunk of ${length} bytes: ${why}`, {
    cause,
  })
}
