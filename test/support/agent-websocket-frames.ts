/** Websocket frames as a server sends them, and as none should (RFC 6455 §5.2). */

export interface FrameOddities {
  readonly fin?: boolean
  /** Reserved bits, 0 to 7. */
  readonly reserved?: number
}

export function serverFrame(
  opcode: number,
  payload: Uint8Array,
  { fin = true, reserved = 0 }: FrameOddities = {},
): Buffer {
  const first = (fin ? 0x80 : 0) | (reserved << 4) | opcode
  return Buffer.concat([Buffer.of(first), lengthBytes(payload.length), payload])
}

function lengthBytes(length: number): Buffer {
  if (length < 126) return Buffer.of(length)
  if (length < 65_536) return Buffer.of(126, length >> 8, length & 0xff)
  const bytes = Buffer.alloc(9, 127)
  bytes.writeBigUInt64BE(BigInt(length), 1)
  return bytes
}
