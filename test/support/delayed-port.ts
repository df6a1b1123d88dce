/** A port of this machine that leads to another one, over a path that takes its time. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface DelayedPort extends AsyncDisposable {
  readonly port: number
}

/** What comes in from the far side is held for `delayMs`, each way. */
export async function openDelayedPort(toPort: number, delayMs: number): Promise<DelayedPort> {
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect({ port: toPort, host: '127.0.0.1', noDelay: true })
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.on('data', (bytes) => setTimeout(() => to.write(bytes), delayMs))
      from.on('close', () => to.destroy())
      from.on('error', () => undefined) // `close` follows
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const close = async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  }
  return { port, [Symbol.asyncDispose]: close }
}
