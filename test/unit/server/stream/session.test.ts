import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createLog, silentLog } from '#server/log.ts'
import { FramePool } from '#server/stream/frame-pool.ts'
import { Session } from '#server/stream/session.ts'
import { encodeMessage } from '#shared/wire/codec.ts'
import { encodeChunkRequest } from '#shared/wire/frame.ts'
import type { AgentMessage } from '#shared/wire/messages.ts'
import { BOOT_ID, hello } from '#test/support/agent-messages.ts'
import { FakeSessionSocket } from '#test/support/fake-session-socket.ts'
import { createTestCore, imageOf, START_MS, type TestCore } from '#test/support/server-core.ts'

const ADDRESS = '192.0.2.1'

class Agent {
  readonly socket = new FakeSessionSocket()
  readonly session: Session

  constructor(core: TestCore, log = silentLog()) {
    this.session = new Session(this.socket, ADDRESS, {
      ...core,
      frames: new FramePool(),
      settings: { serverName: 'server', menuSeconds: 10 },
      now: () => core.clock.nowMs,
      log,
    })
  }

  say(message: AgentMessage): void {
    this.session.receive(encodeMessage(message))
  }

  ask(requestId: number, chunkIndex: number, priority = 0): void {
    this.session.receive(encodeChunkRequest({ requestId, chunkIndex, priority }))
  }

  /** Says hello and returns the identity. */
  async greet(fields: Parameters<typeof hello>[0] = {}) {
    this.say(hello(fields))
    return await this.socket.nextMessage('identity')
  }

  async open(vdisk: string, versionId?: string) {
    this.say({ kind: 'open', vdisk, versionId })
    return await this.socket.nextMessage('opened')
  }
}

/** A core with vDisk "debian", given to whoever comes. */
async function createOpenCore(): Promise<TestCore> {
  const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'debian' } })
  await core.addVDisk('debian')
  return core
}

async function bootOf(core: TestCore, bootId = BOOT_ID) {
  const boot = (await core.boots.list()).find((record) => record.bootId === bootId)
  assert.ok(boot !== undefined)
  return boot
}

describe('hello', () => {
  it('is answered by who the machine is and what it may boot', async () => {
    const core = await createOpenCore()
    await core.addVDisk('ubuntu')
    const agent = new Agent(core)
    const identity = await agent.greet()
    const [client] = await core.registry.list()
    assert.deepEqual(identity, {
      kind: 'identity',
      state: 'approved',
      clientId: client?.id,
      hostname: 'client-1',
      machineId: client?.machineId,
      serverName: 'server',
      offers: [{ vdisk: 'debian', title: 'Title of debian', sizeBytes: imageOf('debian').length }],
      defaultVdisk: 'debian',
      menuSeconds: 10,
      serverTimeMs: START_MS,
    })
    assert.equal(agent.session.state, 'identified')
  })

  it('of another protocol version is answered by PROTOCOL_VERSION and the end', async () => {
    const agent = new Agent(createTestCore())
    agent.say(hello({ protocol: 2 }))
    const error = await agent.socket.nextMessage('error')
    assert.equal(error.code, 'PROTOCOL_VERSION')
    assert.match(error.message, /speaks protocol 2, this server 1/)
    assert.equal((await agent.socket.nextClose()).code, 1002)
  })

  it('must be the first message, and comes once', async () => {
    const early = new Agent(createTestCore())
    early.say({ kind: 'open', vdisk: 'debian' })
    assert.match((await early.socket.nextMessage('error')).message, /open came before hello/)
    const twice = new Agent(createTestCore())
    await twice.greet()
    twice.say(hello())
    assert.match((await twice.socket.nextMessage('error')).message, /hello was said already/)
    assert.equal((await twice.socket.nextClose()).code, 1002)
  })

  it('of a machine nothing tells from others is an error', async () => {
    const agent = new Agent(createTestCore())
    agent.say(hello({ facts: { macs: [] } }))
    assert.equal((await agent.socket.nextMessage('error')).code, 'MESSAGE_INVALID')
  })
})

describe('a waiting session', () => {
  it('gets a new identity at once when the client is approved and assigned', async () => {
    const core = createTestCore()
    await core.addVDisk('debian')
    const agent = new Agent(core)
    const { clientId, state } = await agent.greet()
    assert.equal(state, 'pending')
    await core.registry.approve(clientId)
    const approved = await agent.socket.nextMessage('identity')
    assert.deepEqual(
      [approved.state, approved.offers, approved.defaultVdisk],
      ['approved', [], undefined],
    )
    await core.registry.assign(clientId, ['debian'], { only: false })
    assert.equal((await agent.socket.nextMessage('identity')).defaultVdisk, 'debian')
    await core.registry.rename(clientId, 'reception')
    assert.equal((await agent.socket.nextMessage('identity')).hostname, 'reception')
  })

  it('is told nothing of vDisks while it is pending or refused', async () => {
    const core = createTestCore()
    await core.addVDisk('debian')
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    await core.registry.refuse(clientId)
    assert.equal((await agent.socket.nextMessage('identity')).state, 'refused')
    await core.registry.assign(clientId, ['debian'], { only: false })
    await core.registry.rename(clientId, 'x1')
    assert.deepEqual((await agent.socket.nextMessage('identity')).offers, [])
  })

  it('is offered an assigned vDisk when it is imported, and loses it when it is removed', async () => {
    const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'debian' } })
    const agent = new Agent(core)
    assert.deepEqual((await agent.greet()).offers, [])
    await core.addVDisk('debian')
    assert.equal((await agent.socket.nextMessage('identity')).offers.length, 1)
    await core.catalog.remove('debian')
    assert.deepEqual((await agent.socket.nextMessage('identity')).offers, [])
  })

  it('is not bothered by changes that are none for it', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    core.clock.nowMs += 5000
    await core.registry.approve(clientId)
    await core.addVDisk('other')
    await agent.open('debian') // the very next thing that is sent
  })

  it('is closed when its client is removed, to say hello as a new one', async () => {
    const core = createTestCore()
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    await core.registry.remove(clientId)
    assert.equal((await agent.socket.nextClose()).code, 1012)
    assert.notEqual((await new Agent(core).greet()).clientId, clientId)
  })
})

describe('open', () => {
  it('is answered by version, size, root and kernel', async () => {
    const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'debian' } })
    const kernel = { id: 'ab'.repeat(32), release: '6.1.0-1' }
    const versionId = await core.addVDisk('debian', imageOf('debian'), kernel)
    const agent = new Agent(core)
    await agent.greet()
    assert.deepEqual(await agent.open('debian'), {
      kind: 'opened',
      vdisk: 'debian',
      versionId,
      sizeBytes: imageOf('debian').length,
      chunkBytes: 4096,
      root: { partition: 1, fsType: 'ext4', options: '' },
      kernel: {
        ...kernel,
        kernelPath: `/files/kernel/${kernel.id}/vmlinuz`,
        initrdPaths: [
          '/files/agent.img',
          `/files/kernel/${kernel.id}/modules.img`,
          `/files/kernel/${kernel.id}/extra.img`,
        ],
      },
    })
  })

  it('is remembered as the default of the next menu', async () => {
    const core = await createOpenCore()
    await core.addVDisk('ubuntu')
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    await core.registry.assign(clientId, ['ubuntu'], { only: false })
    assert.equal((await agent.socket.nextMessage('identity')).defaultVdisk, 'debian')
    await agent.open('ubuntu')
    agent.say({ kind: 'bye', reason: 'reboot' })
    await agent.socket.nextClose()
    const again = new Agent(core)
    assert.equal((await again.greet({ bootId: 'c'.repeat(32) })).defaultVdisk, 'ubuntu')
  })

  it('of what is not offered, or gone, is answered by an error, and the session stays', async () => {
    const core = await createOpenCore()
    await core.addVDisk('secret')
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    await core.registry.assign(clientId, ['ghost'], { only: false })
    for (const vdisk of ['secret', 'ghost', 'nowhere']) {
      agent.say({ kind: 'open', vdisk })
      assert.equal((await agent.socket.nextMessage('error')).code, 'VDISK_GONE', vdisk)
    }
    agent.say({ kind: 'open', vdisk: 'debian', versionId: 'a'.repeat(64) })
    assert.equal((await agent.socket.nextMessage('error')).code, 'VDISK_GONE')
    await agent.open('debian')
  })

  it('says why when the client is pending or refused', async () => {
    const core = createTestCore()
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    agent.say({ kind: 'open', vdisk: 'debian' })
    assert.equal((await agent.socket.nextMessage('error')).code, 'CLIENT_PENDING')
    await core.registry.refuse(clientId)
    await agent.socket.nextMessage('identity')
    agent.say({ kind: 'open', vdisk: 'debian' })
    assert.equal((await agent.socket.nextMessage('error')).code, 'CLIENT_REFUSED')
  })

  it('comes once per session', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    await agent.open('debian')
    agent.say({ kind: 'open', vdisk: 'debian' })
    assert.match((await agent.socket.nextMessage('error')).message, /open already/)
  })

  it('keeps the version in use until the last of its sessions ends', async () => {
    const core = await createOpenCore()
    const [first, second] = [new Agent(core), new Agent(core)]
    await first.greet()
    await first.open('debian')
    await second.greet({ mac: '52:54:00:00:00:02' })
    await second.open('debian')
    assert.equal(core.chunkStore.openReaders, 1)
    first.session.disconnected()
    await assert.rejects(core.catalog.remove('debian'), { code: 'IN_USE' })
    second.session.disconnected()
    await core.catalog.remove('debian')
    assert.equal(core.chunkStore.openReaders, 0)
  })
})

describe('chunk requests', () => {
  it('are answered by the bytes of the image, zero chunks without any', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    await agent.open('debian')
    const image = imageOf('debian')
    for (const index of [0, 1, 10]) {
      agent.ask(100 + index, index)
      const chunk = await agent.socket.nextChunk()
      const expected = image.subarray(index * 4096, (index + 1) * 4096)
      assert.deepEqual([chunk.requestId, chunk.rawBytes], [100 + index, expected.length])
      assert.deepEqual(chunk.payload, index === 1 ? new Uint8Array() : expected)
    }
  })

  it('before a vDisk is open, or beyond its end, close the session', async () => {
    const core = await createOpenCore()
    const early = new Agent(core)
    await early.greet()
    early.ask(1, 0)
    assert.match((await early.socket.nextMessage('error')).message, /before a vDisk is open/)
    assert.equal((await early.socket.nextClose()).code, 1002)
    const beyond = new Agent(core)
    await beyond.greet()
    await beyond.open('debian')
    beyond.ask(1, 11)
    assert.match((await beyond.socket.nextMessage('error')).message, /chunk 11: the vDisk has 11/)
  })

  it('that fail close the session with the request, and nothing of the inside', async () => {
    const core = await createOpenCore()
    core.chunkStore.corruptChunk = 3
    const agent = new Agent(core)
    await agent.greet()
    await agent.open('debian')
    agent.ask(77, 3)
    const error = await agent.socket.nextMessage('error')
    assert.deepEqual(
      [error.code, error.message],
      ['CHUNK_CORRUPT', 'Cannot answer request 77: chunk 3 is unreadable'],
    )
    assert.equal((await agent.socket.nextClose()).code, 1011)
  })
})

describe('a lost connection', () => {
  it('is resumed with the version the boot had, whatever was changed since', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    const { versionId } = await agent.open('debian')
    agent.session.disconnected()
    assert.equal((await bootOf(core)).end, 'lost')
    await core.registry.unassign(clientId, ['debian'])
    await core.registry.refuse(clientId)
    const back = new Agent(core)
    assert.equal((await back.greet()).state, 'approved')
    await back.open('debian', versionId)
    assert.equal((await bootOf(core)).end, 'running')
    assert.equal((await core.boots.list()).length, 1)
  })

  it('is not resumed into a vDisk that was removed meanwhile', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    const { versionId } = await agent.open('debian')
    agent.session.disconnected()
    await core.catalog.remove('debian')
    const back = new Agent(core)
    await back.greet()
    back.say({ kind: 'open', vdisk: 'debian', versionId })
    assert.equal((await back.socket.nextMessage('error')).code, 'VDISK_GONE')
  })

  it('that nobody noticed yet gives way to the new one of the same boot', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    const { versionId } = await agent.open('debian')
    const back = new Agent(core)
    await back.greet()
    assert.equal((await agent.socket.nextClose()).code, 4000)
    agent.session.disconnected() // the old socket dies late
    await back.open('debian', versionId)
    assert.equal((await bootOf(core)).end, 'running')
    assert.equal(core.sessions.count, 1)
  })

  it('of an earlier boot is lost when the machine boots again', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    await agent.open('debian')
    const again = new Agent(core)
    await again.greet({ bootId: 'c'.repeat(32) })
    assert.equal((await agent.socket.nextClose()).code, 4000)
    assert.equal((await bootOf(core)).end, 'lost')
    assert.equal((await bootOf(core, 'c'.repeat(32))).end, 'running')
  })
})

describe('a database that cannot be written', () => {
  it('does not keep a running client from its vDisk', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    const { versionId } = await agent.open('debian')
    agent.session.disconnected()
    core.clock.nowMs += 120_000
    core.store.transact = async () => {
      throw new Error('disk full')
    }
    const back = new Agent(core)
    await back.greet()
    await back.open('debian', versionId)
    back.ask(1, 0)
    await back.socket.nextChunk()
    await new Promise(setImmediate)
    assert.equal(back.session.state, 'open')
  })
})

describe('the record of the boot', () => {
  it('has the phases by the clock of the server, once each, and the bytes sent', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet({ uptimeSeconds: 4 })
    agent.say({ kind: 'phase', phase: 'agent', uptimeSeconds: 3 })
    core.clock.nowMs += 1000
    agent.say({ kind: 'phase', phase: 'chosen', uptimeSeconds: 5 })
    agent.say({ kind: 'phase', phase: 'chosen', uptimeSeconds: 5 })
    agent.say({ kind: 'phase', phase: 'attached', uptimeSeconds: 99_999 })
    await agent.open('debian')
    agent.ask(1, 0)
    await agent.socket.nextChunk()
    const boot = await bootOf(core)
    assert.deepEqual(boot.phases, [
      { phase: 'agent', atMs: START_MS - 1000 },
      { phase: 'identified', atMs: START_MS },
      { phase: 'chosen', atMs: START_MS + 1000 },
      { phase: 'attached', atMs: START_MS + 1000 }, // not in the future
    ])
    assert.equal(boot.startedAtMs, START_MS - 4000)
    assert.equal(boot.wireBytes, agent.socket.sentBytes)
    assert.equal(boot.vdisk, 'debian')
  })

  it('logs notices at their level, as many as it keeps', async () => {
    const lines: string[] = []
    const log = createLog({ json: false, level: 'info' }, (line) => lines.push(line))
    const agent = new Agent(await createOpenCore(), log)
    await agent.greet()
    for (const level of ['info', 'warning', 'error'] as const) {
      agent.say({ kind: 'notice', level, message: `said as ${level}` })
    }
    for (let n = 0; n < 50; n += 1) agent.say({ kind: 'notice', level: 'info', message: 'again' })
    agent.say({ kind: 'bye', reason: 'poweroff' })
    await agent.socket.nextClose()
    const told = lines.filter((line) => line.includes('notice of the client'))
    assert.equal(told.length, 50)
    for (const [at, level] of ['info', 'warn', 'error'].entries()) {
      assert.match(told[at] ?? '', new RegExp(`Z ${level} +notice.*said as ${level}`))
    }
  })

  it('keeps status and notices, the latter bounded', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    for (let n = 0; n < 60; n += 1) {
      agent.say({ kind: 'notice', level: 'warning', message: `notice ${n}` })
      if (n % 20 === 19) await new Promise(setImmediate)
    }
    agent.say({
      kind: 'status',
      rssBytes: 1,
      ramTierBytes: 2,
      writeCacheBytes: 3,
      writeCacheLimitBytes: 4,
      demandReads: 5,
      demandReadBytes: 6,
      chunksReceived: 7,
      wireBytesReceived: 8,
    })
    await agent.open('debian')
    const boot = await bootOf(core)
    assert.equal(boot.notices.length, 50)
    assert.deepEqual(
      [boot.notices[0]?.message, boot.lastStatus?.wireBytesReceived],
      ['notice 0', 8],
    )
  })

  it('is lost when the connection is gone before the machine was identified', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    agent.say(hello())
    await Promise.resolve()
    agent.session.disconnected()
    const next = new Agent(core)
    await next.greet({ mac: '52:54:00:00:00:02', bootId: 'c'.repeat(32) })
    assert.ok(
      (await core.boots.list()).every(({ bootId, end }) => bootId !== BOOT_ID || end === 'lost'),
    )
  })

  it('ends with what the client did next when it says bye', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    agent.say({ kind: 'bye', reason: 'reboot' })
    assert.equal((await agent.socket.nextClose()).code, 1000)
    const boot = await bootOf(core)
    assert.deepEqual(
      [boot.end, boot.endedAtMs, boot.phases.at(-1)?.phase],
      ['reboot', START_MS, 'shutdown'],
    )
    assert.equal(core.sessions.count, 0)
  })

  it('goes on after kexec', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    agent.say({ kind: 'bye', reason: 'kexec' })
    await agent.socket.nextClose()
    assert.equal((await bootOf(core)).end, 'kexec')
    const next = new Agent(core)
    await next.greet({ uptimeSeconds: 1 })
    const boot = await bootOf(core)
    assert.deepEqual([boot.end, boot.endedAtMs], ['running', undefined])
    assert.ok(!boot.phases.some(({ phase }) => phase === 'shutdown'))
  })
})

describe('a peer that breaks the rules', () => {
  it('is closed with 1002 and told why when a frame is no frame', async () => {
    const frames: [Uint8Array, RegExp][] = [
      [new Uint8Array(), /begins with nothing/],
      [Uint8Array.of(9, 1, 2), /begins with 9/],
      [Uint8Array.of(3, 0, 0, 0), /begins with 3/],
      [Uint8Array.of(1, 0xd9, 0x20), /not msgpack/],
      [Uint8Array.of(1, 0x80), /Cannot read the agent's message/],
      [Uint8Array.of(2, 0, 0), /has 12 bytes, this has 3/],
    ]
    for (const [frame, message] of frames) {
      const agent = new Agent(createTestCore())
      agent.session.receive(frame)
      const error = await agent.socket.nextMessage('error')
      assert.match(error.message, message)
      assert.equal(error.code, 'MESSAGE_INVALID')
      const { code, reason } = await agent.socket.nextClose()
      assert.equal(code, 1002)
      assert.ok(Buffer.byteLength(reason) <= 123)
      assert.equal(agent.session.state, 'closed')
    }
  })

  it('is closed when it floods the session with messages', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    for (let n = 0; n < 65; n += 1) agent.say({ kind: 'notice', level: 'info', message: 'x' })
    assert.equal((await agent.socket.nextMessage('error')).code, 'LIMIT_EXCEEDED')
    assert.equal((await agent.socket.nextClose()).code, 1013)
  })

  it('is told nothing of the inside when the server fails', async () => {
    const core = createTestCore()
    core.store.range = async () => {
      throw new Error('disk on fire at /var/lib/secret')
    }
    const agent = new Agent(core)
    agent.say(hello())
    const error = await agent.socket.nextMessage('error')
    assert.deepEqual(
      [error.code, error.message],
      ['INTERNAL', 'The server failed; its log says how'],
    )
    assert.equal((await agent.socket.nextClose()).code, 1011)
  })
})
