import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Server as HttpServer } from 'node:http'
import type { Server as TlsServer } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { connect as connectTls } from 'node:tls'
import {
  CONNECTIONS_PER_ADDRESS_MAX,
  closeServer,
  createAgentServer,
  createBootServer,
  HTTP_TIMEOUTS,
} from '#server/http-servers.ts'
import { listen } from '#server/listening.ts'
import { ensureServerKey } from '#server/tls/server-key.ts'
import { MiB } from '#shared/units.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const SHORT = {
  ...HTTP_TIMEOUTS,
  headersMs: 50,
  requestMs: 50,
  checkIntervalMs: 20,
  tlsHandshakeMs: 50,
}
const TIMEOUT = { timeout: 20_000 }

async function text(socket: Socket): Promise<string> {
  let text = ''
  try {
    for await (const part of socket) text += String(part)
  } catch {
    // A reset ends the connection as well.
  }
  return text
}

describe('the public listeners', TIMEOUT, () => {
  let boot: HttpServer
  let agent: TlsServer
  before(async () => {
    await using folder = await createTemporaryFolder()
    boot = createBootServer(SHORT)
    agent = createAgentServer(await ensureServerKey(folder.path), SHORT)
    for (const server of [boot, agent]) {
      server.on('request', (_request, response) => response.end('answer'))
      await listen(server, { address: '127.0.0.1', port: 0, option: '--port' })
    }
  })
  after(() => Promise.all([closeServer(boot), closeServer(agent)]))
  const portOf = (server: HttpServer | TlsServer) => (server.address() as AddressInfo).port

  it('close a connection that never finishes its request', async () => {
    const socket = connect(portOf(boot), '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ')
    assert.match(await text(socket), /^HTTP\/1\.1 408/)
  })

  it('close a connection that never finishes its TLS handshake', async () => {
    const socket = connect(portOf(agent), '127.0.0.1')
    assert.equal(await text(socket), '')
  })

  it('do not speak TLS 1.2', async () => {
    const socket = connectTls({
      port: portOf(agent),
      host: '127.0.0.1',
      rejectUnauthorized: false,
      maxVersion: 'TLSv1.2',
    })
    const [error] = (await once(socket, 'error')) as [Error]
    assert.match(error.message, /protocol version/)
  })

  it('answer a request over either', async () => {
    const request = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
    const plain = connect(portOf(boot), '127.0.0.1')
    plain.write(request)
    assert.match(await text(plain), /answer$/)
    const secure = connectTls({ port: portOf(agent), host: '127.0.0.1', rejectUnauthorized: false })
    secure.write(request)
    assert.match(await text(secure), /answer$/)
  })
})

it(
  'a listener takes no more connections of one address than a class room makes',
  TIMEOUT,
  async () => {
    const server = createBootServer()
    server.on('request', (_request, response) => response.end('answer'))
    const port = await listen(server, { address: '127.0.0.1', port: 0, option: '--port' })
    const request = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
    const sockets = Array.from({ length: CONNECTIONS_PER_ADDRESS_MAX }, () =>
      connect(port, '127.0.0.1'),
    )
    await Promise.all(sockets.map((socket) => once(socket, 'connect')))
    const onceMore = connect(port, '127.0.0.1')
    onceMore.write(request)
    assert.equal(await text(onceMore), '')
    for (const socket of sockets) socket.destroy()
    await eventually('there is room again', async () => {
      const socket = connect(port, '127.0.0.1')
      socket.write(request)
      return (await text(socket)).endsWith('answer')
    })
    await closeServer(server)
  },
)

it(
  'a download that stands still is ended by a reset, which passes what does not arrive',
  TIMEOUT,
  async () => {
    const server = createBootServer({ ...HTTP_TIMEOUTS, idleMs: 100 })
    server.on('request', (_request, response) => response.end(Buffer.alloc(32 * MiB)))
    const port = await listen(server, { address: '127.0.0.1', port: 0, option: '--port' })
    const socket = connect(port, '127.0.0.1')
    const [served] = (await once(server, 'connection')) as [Socket]
    // Reads nothing.
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(served, 'close')
    const failed = once(socket, 'error') as Promise<[NodeJS.ErrnoException]>
    socket.resume()
    const [error] = await failed
    assert.equal(error.code, 'ECONNRESET')
    await closeServer(server)
  },
)

it('closeServer() cuts connections that have not finished their handshake', TIMEOUT, async () => {
  await using folder = await createTemporaryFolder()
  const server = createAgentServer(await ensureServerKey(folder.path))
  const port = await listen(server, { address: '127.0.0.1', port: 0, option: '--port' })
  const socket = connect(port, '127.0.0.1')
  await Promise.all([once(socket, 'connect'), once(server, 'connection')])
  await closeServer(server)
  await text(socket)
})

it('listen() names an address that this machine does not have', TIMEOUT, async () => {
  const server = createBootServer()
  await assert.rejects(listen(server, { address: '192.0.2.1', port: 0, option: '--http-port' }), {
    code: 'INVALID_ARGUMENT',
    message: /192\.0\.2\.1 port 0 \(--http-port\)/,
  })
})
