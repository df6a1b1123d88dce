/**
 * What a proxyDHCP server answers (PXE 2.1, UEFI 2.5 §24.7): addresses come from the network's own DHCP
 * server, and what to boot from here. Pure.
 *
 * Every offer names server, file, and "take the file" (discovery control 8), so that no firmware shows a
 * menu. Most go on by that; some (Supermicro, AMI, OVMF without option 43) ask again on port 4011, and get
 * the same.
 */
import {
  addressBytes,
  BOOT_FILE_LENGTH_MAX,
  DHCP_BROADCAST,
  DHCP_CLIENT_PORT,
  DHCP_OPTION,
  DHCP_SERVER_PORT,
  DHCP_TYPE,
  type DhcpMessage,
  dhcpType,
} from '#shared/dhcp/dhcp-message.ts'
import { type PxeClient, pxeClientOf } from './boot-program.ts'

export interface ProxyDhcpOptions {
  /** This server's on the client's network, IPv4. */
  readonly serverAddress: string
  /**
   * Returns what this client is to load: a name for TFTP, or a URL; undefined when there is nothing for
   * it.
   */
  readonly bootFileFor: (client: PxeClient) => string | undefined
}

export interface ProxyAnswer {
  readonly client: PxeClient
  readonly message: DhcpMessage
}

/** PXE_DISCOVERY_CONTROL (tag 6) with bit 3: load the file that is named, ask nobody. */
const TAKE_THE_FILE = Buffer.of(6, 1, 8, 255)

/** No address. */
const NOBODY = '0.0.0.0'

/** DHCPINFORM: on port 4011 of some. */
const INFORM = 8

/**
 * Answers a DISCOVER that was heard on port 67. All else there is between the client and its DHCP server.
 * Returns undefined when there is nothing to say.
 */
export function proxyOffer(
  message: DhcpMessage,
  options: ProxyDhcpOptions,
): ProxyAnswer | undefined {
  if (message.op !== 'request' || dhcpType(message) !== DHCP_TYPE.discover) return undefined
  return answer(message, DHCP_TYPE.offer, options)
}

/** Answers a request that came to port 4011: the client has its address, and asks for the boot file again. */
export function bootServerAck(
  message: DhcpMessage,
  options: ProxyDhcpOptions,
): ProxyAnswer | undefined {
  const type = dhcpType(message)
  if (message.op !== 'request' || (type !== DHCP_TYPE.request && type !== INFORM)) return undefined
  return answer(message, DHCP_TYPE.ack, options)
}

/** Where the offer goes: the client has no address yet, so to everybody, or through the relay. */
export function offerDestination({ relayAddress = NOBODY }: DhcpMessage): {
  readonly address: string
  readonly port: number
} {
  return relayAddress === NOBODY
    ? { address: '255.255.255.255', port: DHCP_CLIENT_PORT }
    : { address: relayAddress, port: DHCP_SERVER_PORT }
}

function answer(
  message: DhcpMessage,
  type: number,
  { serverAddress, bootFileFor }: ProxyDhcpOptions,
): ProxyAnswer | undefined {
  const client = pxeClientOf(message)
  const bootFile = client && bootFileFor(client)
  if (client === undefined || bootFile === undefined) return undefined
  if (bootFile.length > BOOT_FILE_LENGTH_MAX) return undefined
  const machineId = message.options.get(DHCP_OPTION.machineId)
  const options = new Map<number, Uint8Array>([
    [DHCP_OPTION.messageType, Buffer.of(type)],
    [DHCP_OPTION.serverId, addressBytes(serverAddress)],
    [DHCP_OPTION.vendorClass, Buffer.from(client.kind)],
    ...(machineId === undefined ? [] : ([[DHCP_OPTION.machineId, machineId]] as const)),
    ...(client.kind === 'PXEClient' ? ([[DHCP_OPTION.vendorOptions, TAKE_THE_FILE]] as const) : []),
  ])
  return {
    client,
    message: {
      op: 'reply',
      hardwareType: message.hardwareType ?? 1,
      transactionId: message.transactionId,
      flags: type === DHCP_TYPE.offer ? DHCP_BROADCAST : (message.flags ?? 0),
      clientAddress: type === DHCP_TYPE.ack ? (message.clientAddress ?? NOBODY) : NOBODY,
      nextServer: serverAddress,
      relayAddress: message.relayAddress ?? NOBODY,
      hardwareAddress: message.hardwareAddress,
      serverName: serverAddress,
      bootFile,
      options,
    },
  }
}
