/**
 * Cuts the byte stream of the transmission phase into requests, wherever reads happen to split it.
 *
 * Use: fill `target` from `targetAt` on with up to `targetRoom` bytes, call `advance`, then `next`
 * until it returns false. A payload longer than the limit is counted and forgotten, so that the
 * stream stays in step. Nothing is allocated per request.
 */
import { COMMAND, REQUEST_BYTES, REQUEST_MAGIC } from './protocol.ts'

/** One read takes this much: 32 writes of 4 KiB, or 4,600 requests without payload. */
const INPUT_BYTES = 132 * 1024

/** Payloads of these lengths, in steps of a sector, get a view that is made once. */
const KEPT_VIEW_BYTES_MAX = 128 * 1024
const KEPT_VIEW_STEP_BYTES = 512

const TWO_TO_32 = 2 ** 32

/** The peer does not speak the protocol: there is no way to go on. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
}

const AT_HEADER = 0
const IN_PAYLOAD = 1
const DROPPING = 2

export class RequestReader {
  // The request that `next` found. The cookie is opaque: two halves, handed back as they came.
  flags = 0
  type = 0
  cookieHigh = 0
  cookieLow = 0
  /** Not exact above 2^53, and then beyond the end of any device. */
  offset = 0
  length = 0
  /** Whether the request's payload was longer than the limit, and is lost. */
  payloadDropped = false

  readonly #input = Buffer.allocUnsafeSlow(INPUT_BYTES)
  readonly #inputView = new DataView(this.#input.buffer)
  readonly #payload: Buffer
  readonly #keptViews: (Uint8Array | undefined)[] = []
  #state = AT_HEADER
  /** What lies in #input and is not consumed. */
  #begin = 0
  #end = 0
  /** Bytes of the payload that came. */
  #filled = 0

  /** `payload` takes the payload of one write; a longer one is dropped. */
  constructor(payload: Buffer) {
    this.#payload = payload
  }

  get target(): Buffer {
    return this.#state === IN_PAYLOAD ? this.#payload : this.#input
  }

  get targetAt(): number {
    return this.#state === IN_PAYLOAD ? this.#filled : this.#end
  }

  get targetRoom(): number {
    // Between two requests more may come than the present one needs; amid a payload, no more.
    if (this.#state === IN_PAYLOAD) return this.length - this.#filled
    return INPUT_BYTES - this.#end
  }

  /** Says that `lengthBytes` were put into the target. */
  advance(lengthBytes: number): void {
    if (this.#state === IN_PAYLOAD) this.#filled += lengthBytes
    else this.#end += lengthBytes
  }

  /** Puts bytes in front of everything that will be read. */
  feed(bytes: Uint8Array): void {
    if (bytes.length > this.targetRoom) {
      throw new ProtocolError(`Cannot take ${bytes.length} bytes at once`)
    }
    this.target.set(bytes, this.targetAt)
    this.advance(bytes.length)
  }

  /**
   * Returns true when a whole request is here, and false when more bytes are needed.
   * @throws {ProtocolError} when what is here is no request
   */
  next(): boolean {
    if (this.#state === AT_HEADER) {
      if (this.#end - this.#begin < REQUEST_BYTES) {
        this.#moveToFront()
        return false
      }
      this.#decodeHeader()
      if (this.type !== COMMAND.write) return true
      this.#state = this.payloadDropped ? DROPPING : IN_PAYLOAD
      this.#filled = 0
    }
    return this.#takePayload()
  }

  /** The payload of the write that `next` found; valid until `next` is called again. */
  get payload(): Uint8Array {
    const { length } = this
    if (length > KEPT_VIEW_BYTES_MAX || length % KEPT_VIEW_STEP_BYTES !== 0) {
      return this.#payload.subarray(0, length)
    }
    const step = length / KEPT_VIEW_STEP_BYTES
    return (this.#keptViews[step] ??= this.#payload.subarray(0, length))
  }

  #decodeHeader(): void {
    const view = this.#inputView
    const at = this.#begin
    if (view.getUint32(at) !== REQUEST_MAGIC) {
      throw new ProtocolError(
        `Cannot read request: expected magic 0x${REQUEST_MAGIC.toString(16)}, got 0x${view.getUint32(at).toString(16)}`,
      )
    }
    this.flags = view.getUint16(at + 4)
    this.type = view.getUint16(at + 6)
    this.cookieHigh = view.getInt32(at + 8)
    this.cookieLow = view.getInt32(at + 12)
    this.offset = view.getUint32(at + 16) * TWO_TO_32 + view.getUint32(at + 20)
    this.length = view.getUint32(at + 24)
    this.payloadDropped = this.type === COMMAND.write && this.length > this.#payload.length
    this.#begin = at + REQUEST_BYTES
  }

  #takePayload(): boolean {
    const taken = Math.min(this.length - this.#filled, this.#end - this.#begin)
    if (this.#state === IN_PAYLOAD && taken > 0) {
      this.#input.copy(this.#payload, this.#filled, this.#begin, this.#begin + taken)
    }
    this.#filled += taken
    this.#begin += taken
    if (this.#filled === this.length) {
      this.#state = AT_HEADER
      return true
    }
    this.#begin = 0
    this.#end = 0
    return false
  }

  #moveToFront(): void {
    if (this.#begin === 0) return
    if (this.#begin < this.#end) this.#input.copyWithin(0, this.#begin, this.#end)
    this.#end -= this.#begin
    this.#begin = 0
  }
}
