/**
 * Everything that stands on internals of node:net, in one place: the descriptor below a socket. When
 * a future Node has other internals, `takeDescriptor` returns undefined, and the connection is served
 * by EventLoopConnection.
 */
import { Socket, type SocketConstructorOpts } from 'node:net'

/** What is used of the handle below a socket (LibuvStreamWrap). */
interface StreamHandle {
  readonly fd: number
  readStop(): number
  setBlocking(enable: boolean): number
}

/**
 * Makes the socket's descriptor a blocking one, which nobody in this thread reads any more. The
 * socket stays its owner: `end` it to hang up, `destroy` it to close the descriptor.
 */
export function takeDescriptor(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle')
  if (!isStreamHandle(handle)) return undefined
  handle.readStop()
  socket.pause()
  return handle.setBlocking(true) === 0 ? handle.fd : undefined
}

/**
 * Ends our direction of the socket behind a descriptor, while another thread still reads from it.
 * The descriptor becomes non-blocking; it is closed when the returned socket is destroyed.
 */
export function endDescriptor(fd: number): Socket {
  const options: SocketConstructorOpts & { pauseOnCreate: boolean } = {
    fd,
    // Else the socket would be destroyed, and the descriptor closed, as soon as it has ended.
    allowHalfOpen: true,
    // The other thread is the reader.
    pauseOnCreate: true,
  }
  const socket = new Socket(options)
  socket.on('error', () => socket.destroy())
  socket.end()
  return socket
}

function isStreamHandle(handle: unknown): handle is StreamHandle {
  if (typeof handle !== 'object' || handle === null) return false
  const { fd, readStop, setBlocking } = handle as Partial<StreamHandle>
  return (
    typeof fd === 'number' &&
    fd >= 0 &&
    typeof readStop === 'function' &&
    typeof setBlocking === 'function'
  )
}
