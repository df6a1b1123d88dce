/** DHCP messages (RFC 2131 §2, options of RFC 2132) as values. Pure. */
import { invariant } from '../invariant.ts'

export interface DhcpMessage {
  readonly op: 'request' | 'reply'
  /** Hardware type (1: Ethernet). Default 1. */
  readonly hardwareType?: number
  /** `xid` */
  readonly transactionId: number
  /** `secs`: since the client began. */
  readonly seconds?: number
  readonly flags?: number
  /** `ciaddr`: the address the client has. Addresses are IPv4 texts; none is `0.0.0.0`, the default. */
  readonly clientAddress?: string
  /** `yiaddr`: the address the client is given. */
  readonly yourAddress?: string
  /** `siaddr`: whoever has the boot file. */
  readonly nextServer?: string
  /** `giaddr`: the relay in between. */
  readonly relayAddress?: string
  /** `chaddr`: 0 to 16 bytes. */
  readonly hardwareAddress: Uint8Array
  /** `sname`, up to 63 bytes of Latin-1. */
  readonly serverName?: string
  /** `file`, up to 127 bytes of Latin-1. */
  readonly bootFile?: string
  readonly options: ReadonlyMap<number, Uint8Array>
}

/** Codes of the options that somebody here reads or writes. */
export const DHCP_OPTION = {
  subnetMask: 1,
  router: 3,
  dnsServers: 6,
  hostname: 12,
  domainName: 15,
  vendorOptions: 43,
  leaseSeconds: 51,
  messageType: 53,
  serverId: 54,
  parameters: 55,
  renewalSeconds: 58,
  rebindingSeconds: 59,
  vendorClass: 60,
  clientId: 61,
  userClass: 77,
  /** RFC 4578 §2.1, 16 bits. */
  clientArchitecture: 93,
  /** RFC 4578 §2.3. */
  machineId: 97,
  /** Options of Etherboot and iPXE, encapsulated. */
  ipxe: 175,
} as const

export const DHCP_TYPE = { discover: 1, offer: 2, request: 3, ack: 5, nak: 6 } as const

/** `flags`: the client can be reached by broadcasts only. */
export const DHCP_BROADCAST = 0x8000

export const DHCP_SERVER_PORT = 67
export const DHCP_CLIENT_PORT = 68

/** Longest text of `sname` and `file`: a zero stands behind. */
export const BOOT_FILE_LENGTH_MAX = 127
const SERVER_NAME_LENGTH_MAX = 63

/** RFC 2131 §2: fields up to the options, with the magic cookie. */
const OPTIONS_AT = 240
const MAGIC_COOKIE = 0x6382_5363
/** What the oldest relays pass on (RFC 951). */
const MESSAGE_BYTES_MIN = 300

const HARDWARE_ADDRESS_BYTES_MAX = 16
const ETHERNET = 1
const OPTION_PAD = 0
const OPTION_END = 255
const OPTION_BYTES_MAX = 255
const ANY_ADDRESS = '0.0.0.0'

/** @throws an invariant when a text, an address or an option is longer than its field */
export function encodeDhcpMessage(message: DhcpMessage): Buffer {
  const { hardwareAddress, serverName = '', bootFile = '', options } = message
  invariant(hardwareAddress.length <= HARDWARE_ADDRESS_BYTES_MAX, 'chaddr has 16 bytes')
  invariant(serverName.length <= SERVER_NAME_LENGTH_MAX, 'sname has 64 bytes')
  invariant(bootFile.length <= BOOT_FILE_LENGTH_MAX, 'file has 128 bytes')
  const header = Buffer.alloc(OPTIONS_AT)
  header[0] = message.op === 'request' ? 1 : 2
  header[1] = message.hardwareType ?? ETHERNET
  header[2] = hardwareAddress.length
  header.writeUInt32BE(message.transactionId, 4)
  header.writeUInt16BE(message.seconds ?? 0, 8)
  header.writeUInt16BE(message.flags ?? 0, 10)
  header.set(addressBytes(message.clientAddress), 12)
  header.set(addressBytes(message.yourAddress), 16)
  header.set(addressBytes(message.nextServer), 20)
  header.set(addressBytes(message.relayAddress), 24)
  header.set(hardwareAddress, 28)
  header.write(serverName, 44, 'latin1')
  header.write(bootFile, 108, 'latin1')
  header.writeUInt32BE(MAGIC_COOKIE, OPTIONS_AT - 4)
  const encoded = [...options].map(([code, value]) => encodeOption(code, value))
  const packet = Buffer.concat([header, ...encoded, Buffer.of(OPTION_END)])
  const padding = Buffer.alloc(Math.max(0, MESSAGE_BYTES_MIN - packet.length))
  return Buffer.concat([packet, padding])
}

/** Returns undefined for what is no DHCP message. Whatever follows an option that is cut off is left out. */
export function decodeDhcpMessage(packet: Buffer): DhcpMessage | undefined {
  const [op, hardwareType = 0, hardwareLength = 0] = packet
  if (packet.length < OPTIONS_AT || (op !== 1 && op !== 2)) return undefined
  if (packet.readUInt32BE(OPTIONS_AT - 4) !== MAGIC_COOKIE) return undefined
  if (hardwareLength > HARDWARE_ADDRESS_BYTES_MAX) return undefined
  return {
    op: op === 1 ? 'request' : 'reply',
    hardwareType,
    transactionId: packet.readUInt32BE(4),
    seconds: packet.readUInt16BE(8),
    flags: packet.readUInt16BE(10),
    clientAddress: addressAt(packet, 12),
    yourAddress: addressAt(packet, 16),
    nextServer: addressAt(packet, 20),
    relayAddress: addressAt(packet, 24),
    hardwareAddress: packet.subarray(28, 28 + hardwareLength),
    serverName: textAt(packet, 44, 64),
    bootFile: textAt(packet, 108, 128),
    options: readOptions(packet),
  }
}

/** Type of the message; undefined for BOOTP's, which has none. */
export function dhcpType({ options }: DhcpMessage): number | undefined {
  return options.get(DHCP_OPTION.messageType)?.[0]
}

export function addressBytes(address: string = ANY_ADDRESS): Buffer {
  const bytes = Buffer.from(address.split('.').map(Number))
  invariant(bytes.length === 4, `"${address}" is an IPv4 address`)
  return bytes
}

/** `52:54:00:12:34:56` as bytes, and the other way round. */
export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex')
}

export function macText(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
}

function encodeOption(code: number, value: Uint8Array): Buffer {
  invariant(value.length <= OPTION_BYTES_MAX, `option ${code} has ${value.length} bytes`)
  return Buffer.concat([Buffer.of(code, value.length), value])
}

/** What comes in several parts is put together (RFC 3396). */
function readOptions(packet: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>()
  for (let at = OPTIONS_AT; at + 1 < packet.length; ) {
    const code = packet[at] ?? OPTION_END
    if (code === OPTION_END) break
    if (code === OPTION_PAD) {
      at += 1
      continue
    }
    const begin = at + 2
    const end = begin + (packet[at + 1] ?? 0)
    if (end > packet.length) break
    const value = packet.subarray(begin, end)
    const before = options.get(code)
    options.set(code, before === undefined ? value : Buffer.concat([before, value]))
    at = end
  }
  return options
}

function addressAt(packet: Buffer, at: number): string {
  return packet.subarray(at, at + 4).join('.')
}

function textAt(packet: Buffer, at: number, length: number): string {
  const end = packet.indexOf(0, at)
  return packet.toString('latin1', at, end < 0 || end > at + length ? at + length : end)
}
