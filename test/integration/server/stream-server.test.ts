import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { encodeRequest, readObjects } from '#shared/wire/frame.ts'
import { AGENT_PATH } from '#shared/wire/limits.ts'
import { hello } from '#test/support/agent-messages.ts'
import { blockImage } from '#test/support/block-image.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTestCore } from '#test/support/server-core.ts'
import { startStream, TestAgent } from '#test/support/stream-fixture.ts'

const TIMEOUT = { timeout: 20_000 }

const BLOCKS = 2000

async function createOpenCore() {
  const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'debian' } })
  await core.addVDisk('debian', blockImage(BLOCKS, 'debian'))
  return core
}

async function text(socket: Socket | TLSSocket): Promise<string> {
  let text = ''
  for await (const part of socket) text += String(part)
  return text
}

function tls(port: number): TLSSocket {
  return connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
}

/** Asks for a websocket by hand; key and version as RFC 6455 §4.1 has them. */
function upgradeRequest(path: string): string {
  return [
    `GET ${path} HTTP/1.1`,
    'Host: x',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    '\r\n',
  ].join('\r\n')
}

describe('a session over TLS', TIMEOUT, () => {
  it('streams a whole vDisk to two clients at the same time, every byte right', async () => {
    const core = await createOpenCore()
    await using fixture = await startStream({ core })
    const image = blockImage(BLOCKS, 'debian')
    const identities = await Promise.all(
      ['01', '02'].map(async (digits) => {
        const agent = await TestAgent.connect(fixture.port)
        agent.say(hello({ mac: `52:54:00:00:00:${digits}`, bootId: digits.repeat(16) }))
        const identity = await agent.nextMessage('identity')
        agent.say({ kind: 'open', vdisk: 'debian', firstPushBytes: 0 })
        await agent.nextMessage('opened')
        const received = new Uint8Array(image.length)
        const got = { block: 0, answers: 0 }
        while (got.block < BLOCKS) {
          const objects = Array.from({ length: 64 }, (_, at) => {
            return { level: 0, position: Math.min(got.block + at, BLOCKS - 1) }
          })
          agent.socket.send(encodeRequest({ priority: got.block % 2 === 0 ? 0 : 1, objects }))
          // One answer per object, also where several blocks of one chunk were named.
          for (got.answers = 0; got.answers < 64; ) {
            const item = await agent.next()
            assert.ok('frame' in item)
            readObjects(item.frame, ({ position, rawBytes }, payload) => {
              received.set(payload, position * BLOCK_BYTES)
              got.block = Math.max(got.block, position + rawBytes / BLOCK_BYTES)
              got.answers += 1
            })
          }
        }
        assert.ok(Buffer.from(received).equals(image))
        agent.socket.close()
        return identity
      }),
    )
    const [first, second] = identities
    assert.notEqual(first?.hostname, second?.hostname)
    assert.notEqual(first?.machineId, second?.machineId)
  })

  it('tells a waiting client at once when it is approved', async () => {
    const core = createTestCore()
    await core.addVDisk('debian')
    await using fixture = await startStream({ core })
    const agent = await TestAgent.connect(fixture.port)
    agent.say(hello())
    const { clientId, state } = await agent.nextMessage('identity')
    assert.equal(state, 'pending')
    await core.registry.assign(clientId, ['debian'], { only: false })
    await core.registry.approve(clientId)
    const approved = await agent.nextMessage('identity')
    assert.deepEqual([approved.state, approved.defaultVdisk], ['approved', 'debian'])
  })

  it('ends with 1001 when the server stops', async () => {
    const fixture = await startStream()
    const agent = await TestAgent.connect(fixture.port)
    agent.say(hello())
    await agent.nextMessage('identity')
    await fixture[Symbol.asyncDispose]()
    assert.deepEqual(await agent.closed, { code: 1001, reason: 'the server stops' })
  })
})

describe('a peer that breaks the rules', TIMEOUT, () => {
  it('is closed with a reason for text, oversized and malformed messages', async () => {
    await using fixture = await startStream()
    const cases: [string | Uint8Array, number, RegExp][] = [
      ['hello', 1002, /^MESSAGE_INVALID: Cannot use a text message/],
      [Uint8Array.of(1, ...new Uint8Array(64 * 1024 + 1)), 1002, /at most 65536 are allowed/],
      [new Uint8Array(192 * 1024 + 1), 1009, /^$/],
      [new Uint8Array(1_000_000), 1009, /^$/],
      [Uint8Array.of(1, 0x81), 1002, /^MESSAGE_INVALID: /],
      [Uint8Array.of(7), 1002, /^MESSAGE_INVALID: /],
    ]
    for (const [message, code, reason] of cases) {
      const agent = await TestAgent.connect(fixture.port)
      agent.socket.send(message)
      const closed = await agent.closed
      assert.equal(closed.code, code)
      assert.match(closed.reason, reason)
    }
    assert.equal(fixture.stream.connectionCount, 0)
  })

  it('cannot stop the server with random bytes, before or after hello', async () => {
    const core = await createOpenCore()
    await using fixture = await startStream({ core })
    for (let round = 0; round < 60; round += 1) {
      const agent = await TestAgent.connect(fixture.port)
      if (round % 2 === 1) {
        agent.say(hello())
        await agent.nextMessage('identity')
      }
      const frame = randomBytes(1 + (round % 50))
      frame[0] = (round % 3) + 1
      // A random frame may be a valid one by chance; the next is not.
      agent.socket.send(frame)
      agent.socket.send(Uint8Array.of(0))
      assert.equal((await agent.closed).code, 1002)
    }
    const agent = await TestAgent.connect(fixture.port)
    agent.say(hello())
    await agent.nextMessage('identity')
  })

  it('cannot stop the server with bytes that are no TLS, no HTTP and no websocket', async () => {
    await using fixture = await startStream()
    const { port } = fixture
    const plain = connectTcp(port, '127.0.0.1')
    plain.end(randomBytes(500))
    await text(plain).catch(() => '') // a reset is as good as an end
    const noHttp = tls(port)
    noHttp.end(randomBytes(500))
    assert.match(await text(noHttp), /^HTTP\/1\.1 400/)
    const wrongPath = tls(port)
    wrongPath.write(upgradeRequest('/elsewhere'))
    assert.match(await text(wrongPath), /^HTTP\/1\.1 404/)
    const noKey = tls(port)
    noKey.write(upgradeRequest(AGENT_PATH).replace(/Sec-WebSocket-Key.*\r\n/, ''))
    assert.match(await text(noKey), /^HTTP\/1\.1 400/)
    const badFrames = tls(port)
    badFrames.write(upgradeRequest(AGENT_PATH))
    await once(badFrames, 'data')
    badFrames.end(Uint8Array.of(0xff, 0xff, 0xff, 0xff))
    await text(badFrames)
    const agent = await TestAgent.connect(port)
    agent.say(hello())
    await agent.nextMessage('identity')
  })
})

describe('a half-open connection', TIMEOUT, () => {
  it('is closed when no hello comes', async () => {
    await using fixture = await startStream({ limits: { helloTimeoutMs: 50 } })
    const agent = await TestAgent.connect(fixture.port)
    const { code, reason } = await agent.closed
    assert.equal(code, 1002)
    assert.match(reason, /no hello came in 0\.05 s/)
  })

  it('is cut when the agent is silent and does not answer pings; its boot is lost', async () => {
    const core = await createOpenCore()
    await using fixture = await startStream({
      core,
      limits: { pingIntervalMs: 50, silenceTimeoutMs: 200 },
    })
    const agent = await TestAgent.connect(fixture.port, { silent: true })
    agent.say(hello())
    await agent.nextMessage('identity')
    assert.equal((await agent.closed).code, 1006) // no close frame: the connection was cut
    await eventually('the boot is lost', async () => (await core.boots.list())[0]?.end === 'lost')
  })

  it('is kept while the agent answers pings', async () => {
    await using fixture = await startStream({
      limits: { pingIntervalMs: 20, silenceTimeoutMs: 400 },
    })
    const agent = await TestAgent.connect(fixture.port)
    agent.say(hello())
    await agent.nextMessage('identity')
    for (let pings = 0; pings < 30; pings += 1) await once(agent.socket, 'ping')
    assert.equal(fixture.stream.connectionCount, 1)
  })
})

it(
  'connections beyond the bound of an address are refused, and free again later',
  TIMEOUT,
  async () => {
    await using fixture = await startStream({ limits: { connectionsPerAddressMax: 2 } })
    const [first] = await Promise.all([
      TestAgent.connect(fixture.port),
      TestAgent.connect(fixture.port),
    ])
    const third = new TestAgent(fixture.port)
    const [, response] = (await once(third.socket, 'unexpected-response')) as [
      unknown,
      { readonly statusCode: number },
    ]
    assert.equal(response.statusCode, 503)
    third.socket.terminate()
    first?.socket.close()
    await first?.closed
    await TestAgent.connect(fixture.port)
  },
)
