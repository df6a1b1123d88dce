/** What a server can do to an agent: each is said in words that name it, and the session goes on. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import {
  type AddressInfo,
  createServer as createTcpServer,
  type Server,
  type Socket,
} from 'node:net'
import { before, describe, it } from 'node:test'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import type { ObjectListener } from '#agent/fetch/object-transport.ts'
import type { AgentSession } from '#agent/session/agent-session.ts'
import type { ServerKey } from '#server/tls/server-key.ts'
import type { ErrorCode } from '#shared/errors.ts'
import { encodeMessage } from '#shared/wire/codec.ts'
import type { ObjectHeader } from '#shared/wire/frame.ts'
import { MESSAGE_BYTES_MAX } from '#shared/wire/limits.ts'
import type { Opened } from '#shared/wire/messages.ts'
import {
  createServerKey,
  identity,
  openedBy,
  type ScriptedPeer,
  ScriptedServer,
  versionBy,
} from '#test/support/agent-scripted-server.ts'
import { createSession, until, untilUp } from '#test/support/agent-session.ts'
import { eventually } from '#test/support/eventually.ts'
import { createSigningKey, MemoryVersion } from '#test/support/memory-version.ts'

const TIMEOUT = { timeout: 30_000 }
const SIGNAL = new AbortController().signal

let key: ServerKey
before(async () => {
  key = await createServerKey()
})

/** Starts a session with whatever listens there, and returns the first error. */
async function firstError(port: number, pin = key.pin): Promise<{ code: string; message: string }> {
  const limits = { connectTimeoutMs: 300, silenceTimeoutMs: 300 }
  await using session = createSession({ port, pin }, { limits })
  session.start()
  await until(session, () => session.connection.error !== undefined)
  const { code = '', message = '' } = session.connection.error ?? {}
  assert.equal(session.connection.isUp, false)
  // It goes on by itself: the next try fails, too, or is still on.
  const before = session.connection
  await until(session, () => session.connection !== before)
  return { code, message }
}

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** A server on TCP or TLS that does this with each connection. */
class RawServer implements AsyncDisposable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  port = 0

  private constructor(server: Server, onConnection: (socket: Socket) => void) {
    this.#server = server
    const isTls = server.listenerCount('connection') > 0
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => undefined) // agents cut connections
    })
    server.on(isTls ? 'secureConnection' : 'connection', (socket: Socket) => {
      socket.on('error', () => undefined)
      onConnection(socket)
    })
  }

  static async tcp(onConnection: (socket: Socket) => void): Promise<RawServer> {
    return await new RawServer(createTcpServer(), onConnection).#listen()
  }

  static async tls(
    onConnection: (socket: Socket) => void,
    options: TlsOptions = {},
  ): Promise<RawServer> {
    const server = createTlsServer({ key: key.keyPem, cert: key.certPem, ...options })
    return await new RawServer(server, onConnection).#listen()
  }

  async #listen(): Promise<this> {
    this.port = await listening(this.#server)
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

/** Answers the request for an upgrade with this. */
async function answering(answer: string): Promise<RawServer> {
  return await RawServer.tls((socket) => {
    socket.once('data', () => socket.write(answer))
  })
}

describe('a server that is none, or not ours', TIMEOUT, () => {
  it('SERVER_UNREACHABLE: nobody listens', async () => {
    const server = createTcpServer()
    const port = await listening(server)
    server.close()
    await once(server, 'close')
    assert.deepEqual(await firstError(port), {
      code: 'SERVER_UNREACHABLE',
      message: `Cannot reach 127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}`,
    })
  })

  it('SERVER_UNREACHABLE: a server that accepts and says nothing', async () => {
    await using server = await RawServer.tcp(() => undefined)
    const { code, message } = await firstError(server.port)
    assert.equal(code, 'SERVER_UNREACHABLE')
    assert.match(message, /no answer within 0\.3 s$/)
  })

  it('SERVER_NOT_BOOTWIRE: plain HTTP, no TLS, an old TLS, a connection that is closed', async () => {
    const cases: [RawServer, RegExp][] = [
      [await RawServer.tcp((it) => it.end('HTTP/1.1 400 Bad Request\r\n\r\n')), /speak TLS 1\.3$/],
      [await RawServer.tcp((it) => it.end('SSH-2.0-OpenSSH_9.2p1\r\n')), /speak TLS 1\.3$/],
      [await RawServer.tls(() => undefined, { maxVersion: 'TLSv1.2' }), /speak TLS 1\.3$/],
      [await RawServer.tcp((it) => it.end()), /broke the connection off$/],
      [await RawServer.tcp((it) => it.resetAndDestroy()), /broke the connection off$/],
    ]
    for (const [server, expected] of cases) {
      const { code, message } = await firstError(server.port)
      assert.equal(code, 'SERVER_NOT_BOOTWIRE')
      assert.match(message, expected)
      await server[Symbol.asyncDispose]()
    }
  })

  it('KEY_MISMATCH: another key; it is asked for its former keys, and told nothing', async () => {
    const received: string[] = []
    await using server = await RawServer.tls((socket) => {
      socket.on('data', (data) => {
        received.push(String(data))
        socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n')
      })
    })
    const pin = (await createServerKey()).pin
    assert.deepEqual(await firstError(server.port, pin), {
      code: 'KEY_MISMATCH',
      message: `Cannot trust 127.0.0.1:${server.port}: its key is ${key.pin}, expected ${pin}`,
    })
    assert.deepEqual(
      [...new Set(received)],
      [`GET /key-chain HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\nconnection: close\r\n\r\n`],
    )
  })

  it('LIMIT_EXCEEDED or SERVER_NOT_BOOTWIRE: what it answers instead of an upgrade', async () => {
    const accepted = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n'
    const cases: [string, ErrorCode, RegExp][] = [
      ['HTTP/1.1 503 Service Unavailable\r\n\r\n', 'LIMIT_EXCEEDED', /has too many connections$/],
      ['HTTP/1.1 404 Not Found\r\n\r\n', 'SERVER_NOT_BOOTWIRE', /"HTTP\/1\.1 404 Not Found"$/],
      [`${accepted}\r\n`, 'SERVER_NOT_BOOTWIRE', /"HTTP\/1\.1 101 Switching Protocols"$/],
      [`${accepted}Sec-WebSocket-Accept: AAAA\r\n\r\n`, 'SERVER_NOT_BOOTWIRE', /101/],
      [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(9000)}`, 'SERVER_NOT_BOOTWIRE', /answer has no end$/],
      ['nonsense\r\n\r\n', 'SERVER_NOT_BOOTWIRE', /"nonsense"$/],
      ['', 'SERVER_NOT_BOOTWIRE', /does not answer within 0\.3 s$/],
    ]
    for (const [answer, expectedCode, expected] of cases) {
      await using server = await answering(answer)
      const { code, message } = await firstError(server.port)
      assert.equal(code, expectedCode, answer.slice(0, 40))
      assert.match(message, expected)
    }
    await using closing = await RawServer.tls((socket) => socket.once('data', () => socket.end()))
    const { code, message } = await firstError(closing.port)
    assert.equal(code, 'SERVER_NOT_BOOTWIRE')
    assert.match(message, /it closed the connection$/)
  })
})

const NOBODY: ObjectListener = {
  onOpen: () => undefined,
  onLost: () => undefined,
  onBootList: () => undefined,
  onObject: () => undefined,
}

/** Does something hostile on the first connection, and is well-behaved on the next. */
async function afterHostility(
  hostile: (peer: ScriptedPeer) => void | Promise<void>,
): Promise<{ code: string; message: string; closeCode: number }> {
  await using server = await ScriptedServer.start(key)
  await using session = createSession(server, {
    limits: { silenceTimeoutMs: 300, pingIntervalMs: 50 },
  })
  session.listen(NOBODY)
  session.start()
  const first = await server.nextPeer()
  await hostile(first)
  await until(session, () => session.connection.error !== undefined && !session.connection.isUp)
  const { code = '', message = '' } = session.connection.error ?? {}
  const second = await server.nextPeer()
  await second.greet()
  await untilUp(session)
  assert.equal(session.connection.error, undefined)
  first.websocket.terminate()
  return { code, message, closeCode: (await first.closed).code }
}

describe('a server of ours that breaks the protocol', TIMEOUT, () => {
  it('MESSAGE_INVALID: frames and messages that are none', async () => {
    const big = Buffer.alloc(200_000)
    const cases: [string, (peer: ScriptedPeer) => void, RegExp][] = [
      ['masked', (it) => it.socket.write(Buffer.of(0x82, 0x81, 0, 0, 0, 0, 1)), /it is masked$/],
      ['fragment', (it) => it.socket.write(Buffer.of(0x02, 1, 1)), /it is a fragment$/],
      ['continuation', (it) => it.socket.write(Buffer.of(0x80, 1, 1)), /it is a fragment$/],
      [
        'reserved bit',
        (it) => it.socket.write(Buffer.of(0xc2, 1, 1)),
        /extension nobody asked for$/,
      ],
      [
        'oversized',
        (it) => it.websocket.send(big),
        new RegExp(`has 200000 bytes, at most ${MESSAGE_BYTES_MAX} are allowed$`),
      ],
      [
        '2 GiB',
        (it) => it.socket.write(Buffer.of(0x82, 127, 0, 0, 0, 0, 0x80, 0, 0, 0)),
        /2147483648/,
      ],
      [
        'long ping',
        (it) => it.socket.write(Buffer.of(0x89, 126, 0, 200)),
        /at most 125 are allowed$/,
      ],
      ['text', (it) => it.websocket.send('hello'), /opcode 1: expected binary$/],
      ['opcode', (it) => it.socket.write(Buffer.of(0x83, 0)), /opcode 3: expected binary$/],
      ['no type', (it) => it.websocket.send(Buffer.alloc(0)), /begins with nothing$/],
      ['unknown type', (it) => it.websocket.send(Buffer.of(9)), /begins with 9$/],
      ['request', (it) => it.websocket.send(Buffer.alloc(12, 2)), /begins with 2$/],
      [
        'object before a vDisk is open',
        (it) => it.websocket.send(Buffer.of(5, 0, 0, 0)),
        /no vDisk/,
      ],
      ['no msgpack', (it) => it.websocket.send(Buffer.of(1, 0x81)), /it is not msgpack$/],
      [
        'unknown kind',
        (it) => it.websocket.send(Buffer.of(1, 0x81, 0xa4, ...Buffer.from('kind'), 0xa1, 0x78)),
        /kind/,
      ],
      ['identity', (it) => it.say(identity({ hostname: '' })), /hostname/],
      [
        'opened unasked',
        (it) => it.say(openedBy(key)),
        /"debian", which the server opened: nobody asked$/,
      ],
    ]
    for (const [name, hostile, expected] of cases) {
      const { code, message, closeCode } = await afterHostility(hostile)
      assert.equal(code, 'MESSAGE_INVALID', name)
      assert.match(message, expected)
      assert.equal(closeCode, 1002, name)
    }
  })

  it('shows what the server says when it closes, for each close code', async () => {
    const cases: [number, string, ErrorCode, RegExp][] = [
      [1000, '', 'SERVER_UNREACHABLE', /it closed the connection with code 1000$/],
      [1001, 'the server stops', 'SERVER_UNREACHABLE', /^Lost 127\.0\.0\.1:\d+: the server stops$/],
      [1002, 'MESSAGE_INVALID: Cannot use it', 'MESSAGE_INVALID', /^Cannot use it$/],
      [1009, '', 'MESSAGE_INVALID', /closed the connection with code 1009$/],
      [1011, 'CHUNK_CORRUPT: Cannot answer', 'CHUNK_CORRUPT', /^Cannot answer$/],
      [1012, 'this client was removed', 'SERVER_UNREACHABLE', /this client was removed$/],
      [1013, '', 'LIMIT_EXCEEDED', /closed the connection with code 1013$/],
    ]
    for (const [closeCode, reason, expectedCode, expected] of cases) {
      const result = await afterHostility((peer) => peer.websocket.close(closeCode, reason))
      assert.equal(result.code, expectedCode, String(closeCode))
      assert.match(result.message, expected)
      assert.equal(result.closeCode, closeCode, 'it is answered with the same')
    }
  })

  it('keeps what an error said in full when the close that follows repeats its beginning', async () => {
    const text = `Cannot talk to agent 0.1.0: ${'it speaks another protocol '.repeat(10)}`
    const { code, message } = await afterHostility(async (peer) => {
      await peer.greet()
      peer.say({ kind: 'error', code: 'PROTOCOL_VERSION', message: text })
      peer.websocket.close(1002, `PROTOCOL_VERSION: ${text}`.slice(0, 123))
    })
    assert.equal(code, 'PROTOCOL_VERSION')
    assert.equal(message, text)
  })

  it('INTERNAL, with the words of the server: an error of a kind it does not know', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server)
    session.start()
    const peer = await server.nextPeer()
    peer.say({ kind: 'error', code: 'FROM_THE_FUTURE', message: 'Cannot do it' })
    await until(session, () => session.connection.error !== undefined)
    assert.equal(session.connection.error?.code, 'INTERNAL')
    assert.equal(session.connection.error?.message, 'Cannot do it')
  })

  it('survives a connection that ends in the middle of a frame', async () => {
    const { code } = await afterHostility((peer) => {
      const frame = encodeMessage(identity())
      peer.socket.write(Buffer.of(0x82, 126, frame.length >> 8, frame.length & 0xff))
      peer.socket.end(frame.subarray(0, 20))
    })
    assert.equal(code, 'SERVER_UNREACHABLE')
  })

  it('gives a server up that freezes: nothing came, not even an answer to its pings', async () => {
    const { code, message } = await afterHostility(async (peer) => {
      await peer.greet()
      peer.socket.pause()
      peer.socket.removeAllListeners('data')
    })
    assert.equal(code, 'SERVER_UNREACHABLE')
    assert.match(message, /^Lost 127\.0\.0\.1:\d+: nothing came from it for 0\.3 s$/)
  })
})

describe('a server that does half of it', TIMEOUT, () => {
  it('is given up when it answers pings and never says who this machine is', async () => {
    await using server = await ScriptedServer.start(key)
    const limits = { answerTimeoutMs: 200, pingIntervalMs: 20 }
    await using session = createSession(server, { limits })
    session.start()
    const first = await server.nextPeer()
    await first.nextMessage('hello')
    await untilErrorOf(session)
    assert.match(session.connection.error?.message ?? '', /it did not answer for 0\.2 s$/)
    await (await server.nextPeer()).greet()
    await untilUp(session)
  })

  it('is given up when its identity has no end', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server, {
      limits: { answerTimeoutMs: 200, pingIntervalMs: 20 },
    })
    session.start()
    const first = await server.nextPeer()
    first.socket.write(Buffer.of(0x82, 126, 0xff, 0xff, 1))
    const drip = setInterval(() => first.socket.write(Buffer.of(0)), 10)
    await untilErrorOf(session)
    clearInterval(drip)
    assert.match(session.connection.error?.message ?? '', /it did not answer for 0\.2 s$/)
  })

  it('is pinged when it says nothing, and kept while it answers', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server, {
      limits: { silenceTimeoutMs: 300, pingIntervalMs: 20 },
    })
    session.start()
    const peer = await server.nextPeer()
    await peer.greet()
    for (let pings = 0; pings < 20; pings += 1) await once(peer.websocket, 'ping')
    assert.ok(session.connection.isUp)
  })

  it('answers its pings with what they say', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server)
    session.start()
    const peer = await server.nextPeer()
    peer.websocket.ping('are you there?')
    const [payload] = (await once(peer.websocket, 'pong')) as [Buffer]
    assert.equal(payload.toString(), 'are you there?')
  })

  it('is asked again when it dies between open and opened', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server)
    session.start()
    const asked = session.open({ vdisk: 'debian' }, SIGNAL)
    const first = await server.nextPeer()
    await first.greet()
    await first.nextMessage('open')
    first.websocket.terminate()
    const second = await server.nextPeer()
    await second.greet()
    assert.equal((await second.nextMessage('open')).vdisk, 'debian')
    assert.equal(session.isOpen, false)
    second.say(openedBy(key))
    assert.deepEqual(await asked, openedBy(key))
    assert.equal(session.isOpen, true)
  })

  it('cannot slip another vDisk or version under a root', async () => {
    const mine = openedBy(key)
    const other = new MemoryVersion(Buffer.alloc(4096, 'other'), { key: versionBy(key).key })
    for (const hostile of [openedBy(key, { vdisk: 'kiosk' }), other.opened()]) {
      await using server = await ScriptedServer.start(key)
      await using session = createSession(server)
      session.resume(mine)
      session.start()
      const first = await server.nextPeer()
      await first.greet()
      assert.equal((await first.nextMessage('open')).versionId, mine.versionId)
      first.say(hostile)
      await untilErrorOf(session)
      assert.equal(session.connection.error?.code, 'MESSAGE_INVALID')
      assert.match(session.connection.error?.message ?? '', /expected debian, version [0-9a-f]{64}/)
      assert.equal(session.isOpen, false)
    }
  })

  it('MANIFEST_UNTRUSTED, MANIFEST_INVALID: who opens it is told; the next try is on a new connection', async () => {
    const strangers = new MemoryVersion(Buffer.alloc(4096, 'x'), { key: createSigningKey() })
    const { manifest } = openedBy(key)
    const signature = Buffer.from(manifest.signature, 'base64')
    signature[7] = (signature[7] ?? 0) ^ 1
    const damaged = { ...manifest, signature: signature.toString('base64') }
    const cases: [Opened, ErrorCode][] = [
      [strangers.opened(), 'MANIFEST_UNTRUSTED'],
      [openedBy(key, { manifest: damaged }), 'MANIFEST_UNTRUSTED'],
      [openedBy(key, { versionId: 'deadbeef' }), 'MANIFEST_UNTRUSTED'],
      [openedBy(key, { sizeBytes: 4096 }), 'MANIFEST_INVALID'],
    ]
    for (const [hostile, code] of cases) {
      await using server = await ScriptedServer.start(key)
      await using session = createSession(server)
      session.start()
      const refused = assert.rejects(session.open({ vdisk: 'debian' }, SIGNAL), { code })
      const first = await server.nextPeer()
      await first.greet()
      await first.nextMessage('open')
      first.say(hostile)
      await refused
      assert.equal(session.isOpen, false)
      const again = session.open({ vdisk: 'debian' }, SIGNAL)
      const second = await server.nextPeer()
      await second.greet()
      await second.nextMessage('open')
      second.say(openedBy(key))
      assert.equal((await again).vdisk, 'debian')
    }
  })

  it('MANIFEST_UNTRUSTED under a root: it is shown, and tried again on a new connection', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server, { limits: { reopenPauseMs: 20 } })
    session.resume(openedBy(key))
    session.start()
    const first = await server.nextPeer()
    await first.greet()
    await first.nextMessage('open')
    const { manifest } = openedBy(await createServerKey())
    first.say(
      openedBy(key, { manifest: { ...openedBy(key).manifest, signature: manifest.signature } }),
    )
    await until(session, () => session.connection.error !== undefined)
    assert.ok(session.connection.isUp)
    assert.equal(session.connection.error?.code, 'MANIFEST_UNTRUSTED')
    const second = await server.nextPeer()
    await second.greet()
    await second.nextMessage('open')
    second.say(openedBy(key))
    await until(session, () => session.isOpen)
    assert.equal(session.connection.error, undefined)
  })

  it('refuses a vDisk that is open: it is shown, asked again for, and goes on', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server, { limits: { reopenPauseMs: 20 } })
    session.resume(openedBy(key))
    session.start()
    const peer = await server.nextPeer()
    await peer.greet()
    for (let refusals = 0; refusals < 3; refusals += 1) {
      await peer.nextMessage('open')
      peer.say({ kind: 'error', code: 'VDISK_GONE', message: 'Cannot open vDisk "debian"' })
    }
    await until(session, () => session.connection.error !== undefined)
    assert.equal(session.connection.error?.code, 'VDISK_GONE')
    assert.ok(session.connection.isUp)
    assert.equal(session.isOpen, false)
    await peer.nextMessage('open')
    peer.say(openedBy(key))
    await until(session, () => session.isOpen)
    assert.equal(session.connection.error, undefined)
  })

  it('may say an error at any moment', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server)
    const objects: ObjectHeader[] = []
    session.listen({
      onOpen: () => undefined,
      onLost: () => undefined,
      onBootList: () => undefined,
      onObject: (header) => objects.push(header),
    })
    session.start()
    const peer = await server.nextPeer()
    const error = { kind: 'error', code: 'INTERNAL', message: 'no' } as const
    peer.say(error)
    await peer.greet()
    peer.say(error)
    await until(session, () => session.connection.isUp && session.connection.error !== undefined)
    const refused = session.open({ vdisk: 'debian' }, SIGNAL)
    peer.say(error)
    await assert.rejects(refused, { code: 'INTERNAL', message: 'no' })
    const asked = session.open({ vdisk: 'debian' }, SIGNAL)
    peer.say(openedBy(key))
    await asked
    peer.say(error)
    peer.sendObject(versionBy(key).object({ level: 0, position: 0 }))
    await until(session, () => session.connection.error !== undefined)
    await eventually('the object is handed on', () => objects.length === 1)
    assert.ok(session.isOpen, 'only a close ends it')
  })
})

async function untilErrorOf(session: AgentSession): Promise<void> {
  await until(session, () => session.connection.error !== undefined && !session.connection.isUp)
}
