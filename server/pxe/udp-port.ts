/** A UDP socket on a well-known port, with failures a person can act on. */
import { createSocket, type Socket } from 'node:dgram'
import { BootwireError } from '#shared/errors.ts'

export interface UdpPort {
  readonly address: string
  readonly port: number
  /** Option that switches the service on, for messages. */
  readonly option: string
}

/**
 * Several may have the same port, each on another address: Linux hands a packet to the one with the address
 * that it was sent to, and broadcasts to the one with none.
 * @throws {BootwireError} PORT_TAKEN, PERMISSION_DENIED, INVALID_ARGUMENT
 */
export async function bindUdp(place: UdpPort): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error) => {
      socket.close()
      reject(bindFailure(place, error))
    }
    socket.once('error', onError)
    socket.bind(place.port, place.address, () => {
      socket.off('error', onError)
      resolve()
    })
  })
  return socket
}

function bindFailure({ address, port, option }: UdpPort, error: Error): BootwireError {
  const code = 'code' in error ? error.code : undefined
  const what = `Cannot listen on ${address} port ${port}/udp (${option})`
  if (code === 'EADDRINUSE') {
    return new BootwireError(
      'PORT_TAKEN',
      `${what}: another DHCP or TFTP server of this machine has it; "bootwire pxe config dnsmasq" prints what it needs to do this part`,
      { cause: error },
    )
  }
  if (code === 'EACCES') {
    return new BootwireError(
      'PERMISSION_DENIED',
      `${what}: ports below 1024 are for root, or for who has CAP_NET_BIND_SERVICE (AmbientCapabilities= of a systemd unit)`,
      { cause: error },
    )
  }
  return new BootwireError('INVALID_ARGUMENT', `${what}: ${error.message}`, { cause: error })
}
