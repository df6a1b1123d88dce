/**
 * The two DHCP messages that keep a lease (RFC 2131): the request of a client that has its address, and
 * what a server answers. Pure.
 */
import {
  DHCP_OPTION,
  DHCP_TYPE,
  decodeDhcpMessage,
  dhcpType,
  encodeDhcpMessage,
  macBytes,
  macText,
} from '#shared/dhcp/dhcp-message.ts'

const ETHERNET = 1

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
  const mac = macBytes(request.mac)
  return encodeDhcpMessage({
    op: 'request',
    transactionId: request.transactionId,
    clientAddress: request.address,
    hardwareAddress: mac,
    options: new Map([
      [DHCP_OPTION.messageType, Buffer.of(DHCP_TYPE.request)],
      [DHCP_OPTION.clientId, Buffer.concat([Buffer.of(ETHERNET), mac])],
      [DHCP_OPTION.hostname, Buffer.from(request.hostname)],
      [
        DHCP_OPTION.parameters,
        Buffer.of(
          DHCP_OPTION.leaseSeconds,
          DHCP_OPTION.renewalSeconds,
          DHCP_OPTION.rebindingSeconds,
        ),
      ],
    ]),
  })
}

/** Returns undefined for what is no answer to a request of ours. */
export function decodeLeaseAnswer(packet: Buffer, mac: string): LeaseAnswer | undefined {
  const message = decodeDhcpMessage(packet)
  if (message === undefined || message.op !== 'reply') return undefined
  if (macText(message.hardwareAddress) !== mac) return undefined
  const { options, transactionId } = message
  const type = dhcpType(message)
  if (type === DHCP_TYPE.nak) return { kind: 'nak', transactionId }
  const leaseSeconds = secondsIn(options, DHCP_OPTION.leaseSeconds)
  const serverId = options.get(DHCP_OPTION.serverId)
  if (type !== DHCP_TYPE.ack || leaseSeconds === undefined || serverId?.length !== 4) {
    return undefined
  }
  const renewalSeconds = secondsIn(options, DHCP_OPTION.renewalSeconds)
  const rebindingSeconds = secondsIn(options, DHCP_OPTION.rebindingSeconds)
  return {
    kind: 'ack',
    transactionId,
    leaseSeconds,
    serverId: serverId.join('.'),
    ...(renewalSeconds !== undefined && { renewalSeconds }),
    ...(rebindingSeconds !== undefined && { rebindingSeconds }),
  }
}

function secondsIn(options: ReadonlyMap<number, Uint8Array>, code: number): number | undefined {
  const value = options.get(code)
  return value?.length === 4 ? Buffer.from(value).readUInt32BE(0) : undefined
}
