import type { Socket } from 'node:net'

/** Returns who is at the other end, IPv4 addresses in their own form (RFC 4291 §2.5.5.2). */
export function peerAddress(socket: Pick<Socket, 'remoteAddress'>): string {
  return socket.remoteAddress?.replace(/^::ffff:(?=[0-9.]+$)/, '') ?? 'unknown'
}
