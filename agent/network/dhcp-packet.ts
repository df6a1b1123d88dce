/**
 * The two DHCP messages that keep a lease (RFC 2131, options of RFC 2132): the request of a client that has
 * its address, and what a server answers. Pure.
 */

/** RFC 2131 §2: fields up to the options, with the magic cookie. */
const OPTIONS_AT = 240
const MAGIC_COOKIE = 0x6382_5363
/** What the oldest relays pass on (RFC 951). */
const PACKET_BYTES_MIN = 300

const BOOTREQUEST = 1
const BOOTREPLY = 2
const ETHERNET = 1
const MAC_BYTES = 6

const OPTION = {
  pad: 0,
  hostname: 12,
  leaseSeconds: 51,
  messageType: 53,
  serverId: 54,
  parameters: 55,
  renewalSeconds: 58,
  rebindingSeconds: 59,
  clientId: 61,
  end: 255,
} as const

const DHCPREQUEST = 3
const DHCPACK = 5
const DHCPNAK = 6

export interface LeaseRequest {
  readonly transactionId: number
  /** As `52:54:00:12:34:56`; also the client's identifier, as iPXE's. */
  readonly mac: string
  /** The address the client has, IPv4. */
  readonly address: string
  readonly hostname: string
}

export type LeaseAnswer =
  | {
      readonly kind: 'ack'
      readonly transactionId: number
      /** Seconds; 0xffffffff is for ever. */
      readonly leaseSeconds: number
      readonly renewalSeconds?: number
      readonly rebindingSeconds?: number
      readonly serverId: string
    }
  | { readonly kind: 'nak'; readonly transactionId: number }

/** The same for RENEWING and REBINDING (RFC 2131 §4.3.2): the address as `ciaddr`, no server named. */
export function encodeLeaseRequest(request: LeaseRequest): Buffer {
  const mac = Buffer.from(request.mac.replaceAll(':', ''), 'hex')
  const header = Buffer.alloc(OPTIONS_AT)
  header.set([BOOTREQUEST, ETHERNET, MAC_BYTES])
  header.writeUInt32BE(request.transactionId, 4)
  header.set(request.address.split('.').map(Number), 12)
  header.set(mac, 28)
  header.writeUInt32BE(MAGIC_COOKIE, OPTIONS_AT - 4)
  const options = [
    option(OPTION.messageType, Buffer.of(DHCPREQUEST)),
    option(OPTION.clientId, Buffer.concat([Buffer.of(ETHERNET), mac])),
    option(OPTION.hostname, Buffer.from(request.hostname)),
    option(
      OPTION.parameters,
      Buffer.of(OPTION.leaseSeconds, OPTION.renewalSeconds, OPTION.rebindingSeconds),
    ),
    Buffer.of(OPTION.end),
  ]
  const packet = Buffer.concat([header, ...options])
  const padding = Buffer.alloc(Math.max(0, PACKET_BYTES_MIN - packet.length))
  return Buffer.concat([packet, padding])
}

/** Returns undefined for what is no answer to a request of ours. */
export function decodeLeaseAnswer(packet: Buffer, mac: string): LeaseAnswer | undefined {
  if (packet.length < OPTIONS_AT || packet[0] !== BOOTREPLY) return undefined
  if (packet.readUInt32BE(OPTIONS_AT - 4) !== MAGIC_COOKIE) return undefined
  if (packet.toString('hex', 28, 28 + MAC_BYTES) !== mac.replaceAll(':', '')) return undefined
  const options = readOptions(packet)
  const transactionId = packet.readUInt32BE(4)
  const type = options.get(OPTION.messageType)?.[0]
  if (type === DHCPNAK) return { kind: 'nak', transactionId }
  const leaseSeconds = secondsIn(options, OPTION.leaseSeconds)
  const serverId = options.get(OPTION.serverId)
  if (type !== DHCPACK || leaseSeconds === undefined || serverId?.length !== 4) return undefined
  const renewalSeconds = secondsIn(options, OPTION.renewalSeconds)
  const rebindingSeconds = secondsIn(options, OPTION.rebindingSeconds)
  return {
    kind: 'ack',
    transactionId,
    leaseSeconds,
    serverId: serverId.join('.'),
    ...(renewalSeconds !== undefined && { renewalSeconds }),
    ...(rebindingSeconds !== undefined && { rebindingSeconds }),
  }
}

function option(code: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.of(code, value.length), value])
}

/** Whatever follows an option that is cut off is left out. */
function readOptions(packet: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>()
  for (let at = OPTIONS_AT; at + 1 < packet.length; ) {
    const code = packet[at] ?? OPTION.end
    if (code === OPTION.end) break
    if (code === OPTION.pad) {
      at += 1
      continue
    }
    const begin = at + 2
    const end = begin + (packet[at + 1] ?? 0)
    if (end > packet.length) break
    options.set(code, packet.subarray(begin, end))
    at = end
  }
  return options
}

function secondsIn(options: ReadonlyMap<number, Buffer>, code: number): number | undefined {
  const value = options.get(code)
  return value?.length === 4 ? value.readUInt32BE(0) : undefined
}
