/**
 * Sends what a network boot client sends and prints what it is answered, a line of hex each. Run in the
 * client's network.
 *
 * usage: dhcp-ask.ts 67|4011 VENDOR_CLASS ARCHITECTURE [USER_CLASS]
 */
import { createSocket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import { encodeDhcpMessage, macBytes } from '#shared/dhcp/dhcp-message.ts'

/** Longer than any answer takes. */
const LISTEN_MS = 1_500

const [port = '', vendorClass = '', architecture = '', userClass] = process.argv.slice(2)
const isDiscover = port === '67'
const own = Object.values(networkInterfaces())
  .flatMap((list) => list ?? [])
  .find(({ family, internal }) => family === 'IPv4' && !internal)?.address
const packet = encodeDhcpMessage({
  op: 'request',
  transactionId: 0x7777_0001,
  flags: 0x8000,
  ...(!isDiscover && own !== undefined && { clientAddress: own }),
  hardwareAddress: macBytes('52:54:00:00:00:77'),
  options: new Map<number, Uint8Array>([
    [53, Buffer.of(isDiscover ? 1 : 3)],
    [60, Buffer.from(vendorClass)],
    [93, Buffer.of(0, Number(architecture))],
    ...(userClass === undefined ? [] : ([[77, Buffer.from(userClass)]] as const)),
  ]),
})
const socket = createSocket({ type: 'udp4', reuseAddr: true })
socket.on('message', (answer) => process.stdout.write(`${answer.toString('hex')}\n`))
// Firmware asks port 4011 from a port of its choice; offers come to everybody's port 68.
socket.bind(isDiscover ? 68 : 4444, () => {
  socket.setBroadcast(true)
  const to = isDiscover ? '255.255.255.255' : '10.79.0.1'
  socket.send(packet, Number(port), to)
  setTimeout(() => socket.close(), LISTEN_MS)
})
