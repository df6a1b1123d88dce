/** Sends the content of a version in frames, zeros only counted, data gathered into large writes. */
import type { ContentPiece } from '#server/store/versions/version-content.ts'
import { KiB } from '#shared/units.ts'
import { encodeFrameHeader, FRAME, FRAME_HEADER_BYTES } from './content-frames.ts'

/** Twice this is held: one piece of memory is filled while the other is on its way. */
const GATHERED_BYTES: number = 512 * KiB

export async function sendContent(
  pieces: AsyncIterable<ContentPiece>,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const gathering = new Gathering(write)
  for await (const { bytes, lengthBytes } of pieces) {
    if (bytes === undefined) await gathering.addZeros(lengthBytes)
    else await gathering.add(bytes)
  }
  await gathering.end()
}

class Gathering {
  readonly #write: (bytes: Uint8Array) => Promise<void>
  #filling: Buffer = Buffer.alloc(FRAME_HEADER_BYTES + GATHERED_BYTES)
  #spare: Buffer = Buffer.alloc(FRAME_HEADER_BYTES + GATHERED_BYTES)
  #length = 0
  #zeros = 0
  /** The write that reads from `#spare`. */
  #writing: Promise<void> = Promise.resolve()

  constructor(write: (bytes: Uint8Array) => Promise<void>) {
    this.#write = write
  }

  async add(bytes: Uint8Array): Promise<void> {
    await this.#flushZeros()
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + GATHERED_BYTES - this.#length)
      this.#filling.set(part, FRAME_HEADER_BYTES + this.#length)
      this.#length += part.length
      at += part.length
      if (this.#length === GATHERED_BYTES) await this.#flush()
    }
  }

  async addZeros(lengthBytes: number): Promise<void> {
    await this.#flush()
    this.#zeros += lengthBytes
  }

  async end(): Promise<void> {
    await this.#flush()
    await this.#flushZeros()
    await this.#writing
    await this.#write(encodeFrameHeader(FRAME.end, 0))
  }

  async #flush(): Promise<void> {
    if (this.#length === 0) return
    this.#filling.set(encodeFrameHeader(FRAME.data, this.#length))
    await this.#writing
    const full = this.#filling
    this.#writing = this.#write(full.subarray(0, FRAME_HEADER_BYTES + this.#length))
    // Awaited at the next write; until then a failure has nobody who listens.
    this.#writing.catch(() => undefined)
    this.#filling = this.#spare
    this.#spare = full
    this.#length = 0
  }

  async #flushZeros(): Promise<void> {
    if (this.#zeros === 0) return
    await this.#writing
    await this.#write(encodeFrameHeader(FRAME.zeros, this.#zeros))
    this.#zeros = 0
  }
}
