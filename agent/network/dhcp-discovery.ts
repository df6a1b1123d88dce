/** Which DHCP servers there are: asks as a client that has no address yet, and listens to all offers. */
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  DHCP_BROADCAST,
  DHCP_CLIENT_PORT,
  DHCP_OPTION,
  DHCP_SERVER_PORT,
  DHCP_TYPE,
  decodeDhcpMessage,
  dhcpType,
  encodeDhcpMessage,
  macBytes,
} from '#shared/dhcp/dhcp-message.ts'

export interface OfferingServer {
  readonly serverId: string
  /** The address it would give. */
  readonly address: string
}

const ETHERNET = 1

/** Nothing is taken: an offer that nobody requests is forgotten. Returns none when there is no way to ask. */
export async function findDhcpServers(mac: string, listenMs: number): Promise<OfferingServer[]> {
  const servers = new Map<string, OfferingServer>()
  const transactionId = randomInt(2 ** 32)
  // Shared: DHCP clients of the system may listen there for other cards.
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  socket.on('error', () => undefined)
  socket.on('message', (packet) => {
    const offer = decodeDhcpMessage(packet)
    if (offer?.transactionId !== transactionId || dhcpType(offer) !== DHCP_TYPE.offer) return
    const address = offer.yourAddress ?? ''
    const id = offer.options.get(DHCP_OPTION.serverId)
    // A proxyDHCP server offers no address.
    if (id?.length !== 4 || address === '0.0.0.0') return
    const serverId = id.join('.')
    servers.set(serverId, { serverId, address })
  })
  const hardwareAddress = macBytes(mac)
  const packet = encodeDhcpMessage({
    op: 'request',
    transactionId,
    flags: DHCP_BROADCAST,
    hardwareAddress,
    options: new Map([
      [DHCP_OPTION.messageType, Buffer.of(DHCP_TYPE.discover)],
      [DHCP_OPTION.clientId, Buffer.concat([Buffer.of(ETHERNET), hardwareAddress])],
      [DHCP_OPTION.parameters, Buffer.of(DHCP_OPTION.subnetMask, DHCP_OPTION.router)],
    ]),
  })
  socket.bind(DHCP_CLIENT_PORT, () => {
    socket.setBroadcast(true)
    socket.send(packet, DHCP_SERVER_PORT, '255.255.255.255', () => undefined)
  })
  await sleep(listenMs)
  socket.close()
  return [...servers.values()]
}
