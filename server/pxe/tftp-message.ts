/**
 * Packets of TFTP (RFC 1350) with its options (RFC 2347): block size (RFC 2348), timeout and transfer size
 * (RFC 2349), window size (RFC 7440). Only what a server that gives files reads and writes. Pure.
 */

const OPCODE = { read: 1, write: 2, data: 3, ack: 4, error: 5, optionAck: 6 } as const

export const TFTP_ERROR = {
  undefined: 0,
  notFound: 1,
  accessViolation: 2,
  illegal: 4,
  unknownTransfer: 5,
} as const

/** RFC 2347 §2: a request fits into one packet of 512 bytes. */
const REQUEST_BYTES_MAX = 512

export interface ReadRequest {
  readonly kind: 'read'
  readonly name: string
  readonly mode: string
  /** By name in lower case; the first of equal ones. */
  readonly options: ReadonlyMap<string, string>
}

export type TftpPacket =
  | ReadRequest
  | { readonly kind: 'write' }
  | { readonly kind: 'ack'; readonly block: number }
  | { readonly kind: 'error'; readonly code: number; readonly text: string }

/** Returns undefined for what no client sends. */
export function decodeTftp(packet: Buffer): TftpPacket | undefined {
  if (packet.length < 4) return undefined
  switch (packet.readUInt16BE(0)) {
    case OPCODE.read:
      return decodeRead(packet)
    case OPCODE.write:
      return { kind: 'write' }
    case OPCODE.ack:
      return { kind: 'ack', block: packet.readUInt16BE(2) }
    case OPCODE.error: {
      const end = packet.indexOf(0, 4)
      const text = packet.toString('latin1', 4, end < 0 ? packet.length : end)
      return { kind: 'error', code: packet.readUInt16BE(2), text }
    }
    default:
      return undefined
  }
}

export function encodeData(block: number, data: Uint8Array): Buffer {
  const packet = Buffer.allocUnsafe(4 + data.length)
  packet.writeUInt16BE(OPCODE.data, 0)
  packet.writeUInt16BE(block & 0xffff, 2)
  packet.set(data, 4)
  return packet
}

export function encodeOptionAck(options: ReadonlyMap<string, number>): Buffer {
  const texts = [...options].flatMap(([name, value]) => [name, String(value)])
  return Buffer.concat([
    Buffer.of(0, OPCODE.optionAck),
    Buffer.from(texts.map((text) => `${text}\0`).join(''), 'latin1'),
  ])
}

export function encodeError(code: number, text: string): Buffer {
  return Buffer.concat([Buffer.of(0, OPCODE.error, 0, code), Buffer.from(`${text}\0`, 'latin1')])
}

function decodeRead(packet: Buffer): ReadRequest | undefined {
  // Every text ends with a zero; what follows the last one is none.
  const end = packet.lastIndexOf(0)
  if (packet.length > REQUEST_BYTES_MAX || end < 2) return undefined
  const [name, mode, ...pairs] = packet.toString('latin1', 2, end).split('\0')
  if (name === undefined || mode === undefined) return undefined
  const options = new Map<string, string>()
  for (let index = 0; index + 1 < pairs.length; index += 2) {
    const key = (pairs[index] ?? '').toLowerCase()
    if (!options.has(key)) options.set(key, pairs[index + 1] ?? '')
  }
  return { kind: 'read', name, mode: mode.toLowerCase(), options }
}
