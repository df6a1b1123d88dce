/**
 * Websocket frames (RFC 6455 §5.2). Those of the server are taken apart in place: a message that lies
 * whole in what was read is handed on from there, any other is put together in one buffer that is
 * used again and again. Nothing is allocated per message but a view. Extensions and fragments are
 * refused: our server sends neither.
 */
import { BootwireError } from '#shared/errors.ts'

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

/** `payload` is only valid during the call. */
export type FrameHandler = (opcode: number, payload: Uint8Array) => void

export const MASK_BYTES = 4

const FIN = 0x80
const RESERVED_BITS = 0x70
const OPCODE_BITS = 0x0f
const MASKED = 0x80
const LENGTH_BITS = 0x7f
const LENGTH_16 = 126
const LENGTH_64 = 127
const LENGTH_16_MAX = 0xff_ff
/** Opcode, length, and eight bytes of length: server frames have no mask. */
const HEADER_BYTES_MAX = 10
/** RFC 6455 §5.5: a control frame is never longer. */
const CONTROL_BYTES_MAX = 125

export class FrameParser {
  readonly #onFrame: FrameHandler
  readonly #payloadBytesMax: number
  readonly #header = Buffer.alloc(HEADER_BYTES_MAX)
  #headerFilled = 0
  readonly #payload: Buffer
  #payloadFilled = 0
  /** -1 while the header is not complete. */
  #payloadBytes = -1
  #opcode = 0

  constructor(payloadBytesMax: number, onFrame: FrameHandler) {
    this.#payloadBytesMax = payloadBytesMax
    this.#payload = Buffer.allocUnsafeSlow(payloadBytesMax)
    this.#onFrame = onFrame
  }

  /** Takes what was read. @throws {BootwireError} MESSAGE_INVALID; nothing may be pushed after that */
  push(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length || this.#payloadBytes === 0) {
      if (this.#payloadBytes < 0) {
        at += this.#takeHeader(bytes, at)
        continue
      }
      at += this.#takePayload(bytes, at)
    }
  }

  #takeHeader(bytes: Uint8Array, at: number): number {
    this.#header[this.#headerFilled] = bytes[at] ?? 0
    this.#headerFilled += 1
    if (this.#headerFilled >= 2 && this.#headerFilled === this.#headerBytes()) this.#readHeader()
    return 1
  }

  #headerBytes(): number {
    const length = (this.#header[1] ?? 0) & LENGTH_BITS
    if (length === LENGTH_16) return 4
    return length === LENGTH_64 ? HEADER_BYTES_MAX : 2
  }

  #readHeader(): void {
    const [first = 0, second = 0] = this.#header
    const opcode = first & OPCODE_BITS
    const isControl = opcode >= OPCODE.close
    const length = this.#readLength(second & LENGTH_BITS)
    if ((first & RESERVED_BITS) !== 0) throw invalid('it uses an extension nobody asked for')
    if ((second & MASKED) !== 0) throw invalid('it is masked')
    if ((first & FIN) === 0 || opcode === OPCODE.continuation) throw invalid('it is a fragment')
    const longest = isControl ? CONTROL_BYTES_MAX : this.#payloadBytesMax
    if (length > longest) throw invalid(`it has ${length} bytes, at most ${longest} are allowed`)
    this.#opcode = opcode
    this.#payloadBytes = length
    this.#payloadFilled = 0
    this.#headerFilled = 0
  }

  #readLength(length: number): number {
    if (length === LENGTH_16) return this.#header.readUInt16BE(2)
    if (length === LENGTH_64) return Number(this.#header.readBigUInt64BE(2))
    return length
  }

  #takePayload(bytes: Uint8Array, at: number): number {
    const missing = this.#payloadBytes - this.#payloadFilled
    const taken = Math.min(missing, bytes.length - at)
    if (taken === this.#payloadBytes) {
      this.#deliver(bytes.subarray(at, at + taken))
      return taken
    }
    this.#payload.set(bytes.subarray(at, at + taken), this.#payloadFilled)
    this.#payloadFilled += taken
    if (taken === missing) this.#deliver(this.#payload.subarray(0, this.#payloadBytes))
    return taken
  }

  #deliver(payload: Uint8Array): void {
    this.#payloadBytes = -1
    this.#onFrame(this.#opcode, payload)
  }
}

/** Returns a frame as a client must send it: masked (§5.3). */
export function maskedFrame(opcode: number, payload: Uint8Array, mask: Uint8Array): Buffer {
  const { length } = payload
  const headerBytes = headerBytesFor(length)
  const frame = Buffer.allocUnsafe(headerBytes + MASK_BYTES + length)
  frame[0] = FIN | opcode
  if (headerBytes === 2) frame[1] = MASKED | length
  else if (headerBytes === 4) {
    frame[1] = MASKED | LENGTH_16
    frame.writeUInt16BE(length, 2)
  } else {
    frame[1] = MASKED | LENGTH_64
    frame.writeBigUInt64BE(BigInt(length), 2)
  }
  frame.set(mask, headerBytes)
  const begin = headerBytes + MASK_BYTES
  for (let at = 0; at < length; at += 1) {
    frame[begin + at] = (payload[at] ?? 0) ^ (mask[at % MASK_BYTES] ?? 0)
  }
  return frame
}

function headerBytesFor(length: number): number {
  if (length < LENGTH_16) return 2
  return length <= LENGTH_16_MAX ? 4 : HEADER_BYTES_MAX
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot read the server's websocket frame: ${why}`)
}
