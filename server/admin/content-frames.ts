/**
 * How the content of a version goes over the administration socket: frames of 12 bytes of header (kind
 * u32, length u64, big-endian) and a payload, but for zeros, which are only counted.
 *
 *     head    JSON, what follows          first
 *     data    bytes of the content
 *     zeros   no payload; length of them
 *     end     empty                       last, of a content that is whole
 *     error   JSON, instead of the end
 */
import type { VersionRecord } from '#server/state/records.ts'
import { BootwireError } from '#shared/errors.ts'
import { KiB } from '#shared/units.ts'
import type { ErrorView } from './admin-api.ts'

export const FRAME = { head: 1, data: 2, zeros: 3, end: 4, error: 5 } as const
export type FrameKind = (typeof FRAME)[keyof typeof FRAME]

export const FRAME_HEADER_BYTES = 12

/** A head is a record, an error a sentence. */
const JSON_BYTES_MAX: number = 64 * KiB

export interface ContentHead {
  readonly version: VersionRecord
}

/** What comes after the head. */
export interface ContentPart {
  /** Absent for zeros. Valid until the next part is asked for. */
  readonly bytes?: Uint8Array
  readonly lengthBytes: number
}

export function encodeFrameHeader(kind: FrameKind, lengthBytes: number): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES)
  header.writeUInt32BE(kind)
  header.writeBigUInt64BE(BigInt(lengthBytes), 4)
  return header
}

export function encodeJsonFrame(
  kind: typeof FRAME.head | typeof FRAME.error,
  value: unknown,
): Buffer {
  const json = Buffer.from(JSON.stringify(value))
  return Buffer.concat([encodeFrameHeader(kind, json.length), json])
}

interface Frame {
  readonly kind: number
  readonly lengthBytes: number
}

/**
 * Reads frames from a stream of bytes. Data is handed on as it comes, never collected.
 * Throws what the error frame says, or that the stream ended before its end.
 */
export class ContentDecoder {
  readonly #source: AsyncIterator<Uint8Array>
  #rest: Buffer = Buffer.alloc(0)

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** @throws {BootwireError} what the server says */
  async head(): Promise<ContentHead> {
    const frame = await this.#frame()
    if (frame.kind !== FRAME.head) throw await this.#failure(frame)
    return (await this.#json(frame)) as ContentHead
  }

  /** @throws {BootwireError} what the server says */
  async *parts(): AsyncGenerator<ContentPart> {
    for (;;) {
      const frame = await this.#frame()
      if (frame.kind === FRAME.end) return
      if (frame.kind === FRAME.zeros) yield { lengthBytes: frame.lengthBytes }
      else if (frame.kind === FRAME.data) yield* this.#data(frame.lengthBytes)
      else throw await this.#failure(frame)
    }
  }

  async *#data(lengthBytes: number): AsyncGenerator<ContentPart> {
    for (let left = lengthBytes; left > 0; ) {
      if (this.#rest.length === 0) await this.#fill()
      const bytes = this.#rest.subarray(0, left)
      this.#rest = this.#rest.subarray(bytes.length)
      left -= bytes.length
      yield { bytes, lengthBytes: bytes.length }
    }
  }

  async #frame(): Promise<Frame> {
    const header = await this.#take(FRAME_HEADER_BYTES)
    return { kind: header.readUInt32BE(), lengthBytes: Number(header.readBigUInt64BE(4)) }
  }

  async #json({ lengthBytes }: Frame): Promise<unknown> {
    if (lengthBytes > JSON_BYTES_MAX) throw damaged(`a text of ${lengthBytes} bytes`)
    return JSON.parse((await this.#take(lengthBytes)).toString('utf8'))
  }

  async #failure(frame: Frame): Promise<BootwireError> {
    if (frame.kind !== FRAME.error) return damaged(`a frame of kind ${frame.kind}`)
    const { code, message } = (await this.#json(frame)) as ErrorView
    return new BootwireError(code, message)
  }

  async #take(lengthBytes: number): Promise<Buffer> {
    while (this.#rest.length < lengthBytes) await this.#fill()
    const taken = this.#rest.subarray(0, lengthBytes)
    this.#rest = this.#rest.subarray(lengthBytes)
    return taken
  }

  async #fill(): Promise<void> {
    const { value, done } = await this.#source.next()
    if (done === true) {
      throw new BootwireError(
        'SERVER_NOT_RUNNING',
        'Cannot read the content to its end: the server stopped before it was sent',
      )
    }
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.length)
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
  }
}

function damaged(what: string): BootwireError {
  return new BootwireError('INTERNAL', `Cannot read the content: the server sent ${what}`)
}
