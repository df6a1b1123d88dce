import assert from 'node:assert/strict'
import { describe, it, mock } from 'node:test'
import { DEFAULT_HYDRATION } from '#server/clients/hydration.ts'
import { DEFAULT_WRITE_CACHE } from '#server/clients/write-cache-settings.ts'
import { createLog, silentLog } from '#server/log.ts'
import { Session } from '#server/stream/session.ts'
import { UnreadableObjects } from '#server/stream/unreadable-objects.ts'
import { WRITE_QUOTA_BYTES_DEFAULT } from '#server/write-cache/write-store.ts'
import { BootwireError } from '#shared/errors.ts'
import { contentHash } from '#shared/manifest/content-hash.ts'
import { decodeVersionRoot } from '#shared/manifest/version-root.ts'
import { encodeMessage } from '#shared/wire/codec.ts'
import { firstPushCount } from '#shared/wire/first-push.ts'
import {
  encodePush,
  encodeRequest,
  encodeTrace,
  NO_PAYLOAD,
  type ObjectName,
  type Priority,
} from '#shared/wire/frame.ts'
import type { AgentMessage } from '#shared/wire/messages.ts'
import { encodeReadBack, encodeWrite } from '#shared/wire/write-frames.ts'
import { BOOT_ID, hello } from '#test/support/agent-messages.ts'
import { blockImage } from '#test/support/block-image.ts'
import { eventually } from '#test/support/eventually.ts'
import { FakeSessionSocket } from '#test/support/fake-session-socket.ts'
import { createTestCore, imageOf, START_MS, type TestCore } from '#test/support/server-core.ts'

const ADDRESS = '192.0.2.1'

class Agent {
  readonly socket = new FakeSessionSocket()
  readonly session: Session

  constructor(core: TestCore, log = silentLog()) {
    this.session = new Session(this.socket, ADDRESS, {
      ...core,
      settings: { serverName: 'server', menuSeconds: 10, enrolSecret: Buffer.alloc(32) },
      now: () => core.clock.nowMs,
      log,
    })
  }

  say(message: AgentMessage): void {
    this.session.receive(encodeMessage(message))
  }

  /** Asks for the chunk over a block, or for another object. */
  ask(object: number | ObjectName, priority: Priority = 0): void {
    const name = typeof object === 'number' ? { level: 0, position: object } : object
    this.session.receive(encodeRequest({ priority, objects: [name] }))
  }

  /** Says hello and returns the identity. */
  async greet(fields: Parameters<typeof hello>[0] = {}) {
    this.say(hello(fields))
    return await this.socket.nextMessage('identity')
  }

  async open(vdisk: string, versionId?: string, firstPushBytes = 0) {
    this.say({ kind: 'open', vdisk, versionId, firstPushBytes })
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
      settings: { values: [] },
      serverTimeMs: START_MS,
    })
    assert.equal(agent.session.state, 'identified')
  })

  it('of another protocol version is answered by PROTOCOL_VERSION and the end', async () => {
    const agent = new Agent(createTestCore())
    agent.say(hello({ protocol: 1 }))
    const error = await agent.socket.nextMessage('error')
    assert.equal(error.code, 'PROTOCOL_VERSION')
    assert.match(error.message, /speaks protocol 1, this server 2/)
    assert.equal((await agent.socket.nextClose()).code, 1002)
  })

  it('must be the first message, and comes once', async () => {
    const early = new Agent(createTestCore())
    early.say({ kind: 'open', vdisk: 'debian', firstPushBytes: 0 })
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
    const reader = await core.chunkStore.openVersion(versionId)
    const { record, signature, signerKey } = reader.signedRoot
    const agent = new Agent(core)
    await agent.greet()
    assert.deepEqual(await agent.open('debian'), {
      kind: 'opened',
      vdisk: 'debian',
      versionId,
      sizeBytes: imageOf('debian').length,
      storedBytes: reader.storedBytes,
      manifest: {
        record: Buffer.from(record).toString('base64'),
        signature: Buffer.from(signature).toString('base64'),
        signerKey: Buffer.from(signerKey).toString('base64'),
      },
      hydration: DEFAULT_HYDRATION,
      writeCache: DEFAULT_WRITE_CACHE,
      writes: { roomBytes: WRITE_QUOTA_BYTES_DEFAULT, runs: 0 },
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
      agent.say({ kind: 'open', vdisk, firstPushBytes: 0 })
      assert.equal((await agent.socket.nextMessage('error')).code, 'VDISK_GONE', vdisk)
    }
    agent.say({ kind: 'open', vdisk: 'debian', versionId: 'a'.repeat(64), firstPushBytes: 0 })
    assert.equal((await agent.socket.nextMessage('error')).code, 'VDISK_GONE')
    await agent.open('debian')
  })

  it('says why when the client is pending or refused', async () => {
    const core = createTestCore()
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    agent.say({ kind: 'open', vdisk: 'debian', firstPushBytes: 0 })
    assert.equal((await agent.socket.nextMessage('error')).code, 'CLIENT_PENDING')
    await core.registry.refuse(clientId)
    await agent.socket.nextMessage('identity')
    agent.say({ kind: 'open', vdisk: 'debian', firstPushBytes: 0 })
    assert.equal((await agent.socket.nextMessage('error')).code, 'CLIENT_REFUSED')
  })

  it('that cannot be noted keeps no version in use', async () => {
    const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'os' } })
    await core.addVDisk('os')
    const agent = new Agent(core)
    await agent.greet()
    const save = mock.method(core.boots, 'save', () => {
      return Promise.reject(new BootwireError('STORE_FULL', 'the disk is full'))
    })
    agent.say({ kind: 'open', vdisk: 'os', firstPushBytes: 0 })
    assert.equal((await agent.socket.nextMessage('error')).code, 'STORE_FULL')
    assert.equal(core.chunkStore.openReaders, 0)
    save.mock.restore()
    await agent.open('os')
    agent.session.disconnected()
    await eventually('the version is closed', () => core.chunkStore.openReaders === 0)
  })

  it('comes once per session', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    await agent.greet()
    await agent.open('debian')
    agent.say({ kind: 'open', vdisk: 'debian', firstPushBytes: 0 })
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
    await core.catalog.remove('debian', { force: true })
    assert.equal(core.chunkStore.openReaders, 0)
  })
})

/** A core whose vDisk "debian" has many chunks, and blocks 100 to 199 zero. */
async function createLargeCore(): Promise<TestCore & { readonly versionId: string }> {
  const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'debian' } })
  const image = blockImage(300, 'large', [{ begin: 100, end: 200 }])
  return { ...core, versionId: await core.addVDisk('debian', image) }
}

/** Has a boot of the version read all of its chunks, from the last to the first. */
async function traceBoot(core: TestCore, versionId: string): Promise<void> {
  const reader = await core.chunkStore.openVersion(versionId)
  const positions = Array.from({ length: reader.chunks.count }, (_, at) =>
    reader.chunks.firstBlock(at),
  )
  const entries = positions.toReversed().map((position, at) => ({ position, atMs: at }))
  await core.traces.record(reader, {
    bootId: 'e'.repeat(32),
    clientId: 'c1',
    isConfirmed: true,
    model: 'PC',
    entries,
  })
  await reader.close()
}

describe('requests', () => {
  it('are answered by chunks, by the nodes over them, and by nothing where all is zero', async () => {
    const core = await createLargeCore()
    const agent = new Agent(core)
    await agent.greet()
    const { manifest } = await agent.open('debian')
    agent.ask({ level: 1, position: 0 })
    const leaf = await agent.socket.nextObject()
    assert.equal(leaf.level, 1)
    const { rootHash } = decodeVersionRoot(Buffer.from(manifest.record, 'base64'))
    assert.deepEqual(contentHash(leaf.payload), Buffer.from(rootHash))
    // By a block in its middle.
    agent.ask(50)
    const chunk = await agent.socket.nextObject()
    assert.ok(chunk.position <= 50 && chunk.position + chunk.rawBytes / 4096 > 50)
    const image = blockImage(300, 'large', [{ begin: 100, end: 200 }])
    const begin = chunk.position * 4096
    assert.deepEqual(chunk.payload, image.slice(begin, begin + chunk.rawBytes))
    agent.ask(150)
    const absent = await agent.socket.nextObject()
    assert.deepEqual([absent.position, absent.encoding], [150, NO_PAYLOAD.absent])
  })

  it('before a vDisk is open, or beyond its end, close the session', async () => {
    const core = await createOpenCore()
    for (const frame of [
      encodeRequest({ priority: 0, objects: [] }),
      encodePush([{ begin: 0, end: 1 }]),
      encodeTrace([]),
      encodeWrite(1, []),
      encodeReadBack({ id: 1, firstBlock: 0, blocks: 1 }),
    ]) {
      const early = new Agent(core)
      await early.greet()
      early.session.receive(frame)
      const expected = new RegExp(`a frame of type ${frame[0]} came before a vDisk is open`)
      assert.match((await early.socket.nextMessage('error')).message, expected)
      assert.equal((await early.socket.nextClose()).code, 1002)
    }
    const beyond = new Agent(core)
    await beyond.greet()
    await beyond.open('debian')
    beyond.ask(11)
    assert.match(
      (await beyond.socket.nextMessage('error')).message,
      /no object 0\/11: the last is 10/,
    )
  })

  it('for what the store has lost are answered so, noted and logged once', async () => {
    const core = await createLargeCore()
    const lines: string[] = []
    const log = createLog({ json: false, level: 'error' }, (line) => lines.push(line))
    const agent = new Agent({ ...core, unreadable: new UnreadableObjects(log) })
    await agent.greet()
    await agent.open('debian')
    core.chunkStore.corruptBlock = 3
    for (let attempt = 0; attempt < 5; attempt += 1) {
      agent.ask(3)
      assert.equal((await agent.socket.nextObject()).encoding, NO_PAYLOAD.unreadable)
    }
    core.chunkStore.corruptBlock = undefined
    agent.ask(3)
    assert.notEqual((await agent.socket.nextObject()).encoding, NO_PAYLOAD.unreadable)
    assert.equal(lines.length, 1)
    assert.match(lines[0] ?? '', /cannot read an object/)
    const { notices } = await bootOf(core)
    assert.equal(notices.length, 3)
    assert.match(notices[0]?.message ?? '', /cannot read chunk 0 of this version/)
    assert.doesNotMatch(notices[0]?.message ?? '', /secret/)
  })
})

describe('the boot list', () => {
  it('follows opened, with as much of it pushed as the agent takes', async () => {
    const core = await createLargeCore()
    await traceBoot(core, core.versionId)
    const agent = new Agent(core)
    await agent.greet()
    await agent.open('debian', undefined, 300_000)
    const list = await agent.socket.nextBootList()
    assert.deepEqual(list[0], { level: 1, position: 0, storedBytes: list[0]?.storedBytes })
    assert.ok(list.length > 10)
    const count = firstPushCount(list, 300_000)
    assert.ok(count > 2 && count < list.length)
    for (const { level, position } of list.slice(0, count)) {
      const object = await agent.socket.nextObject()
      assert.deepEqual([object.level, object.position], [level, position])
    }
    await new Promise(setImmediate)
    assert.deepEqual(agent.socket.pending, [])
    // The rest when it is let, without what was sent on request.
    const last = list.at(-1)
    assert.ok(last !== undefined)
    agent.ask(last)
    assert.equal((await agent.socket.nextObject()).position, last.position)
    agent.session.receive(encodePush([{ begin: count, end: list.length }]))
    for (const { position } of list.slice(count, -1)) {
      assert.equal((await agent.socket.nextObject()).position, position)
    }
    await new Promise(setImmediate)
    assert.deepEqual(agent.socket.pending, [])
  })

  it('is not sent where nothing is known of the version', async () => {
    const agent = new Agent(await createLargeCore())
    await agent.greet()
    await agent.open('debian', undefined, 300_000)
    agent.ask(0)
    await agent.socket.nextObject()
    agent.session.receive(encodePush([{ begin: 0, end: 1 }]))
    assert.match((await agent.socket.nextMessage('error')).message, /there is no boot list/)
  })

  it('is whole for others when the client it is made for is gone meanwhile', async () => {
    const core = await createLargeCore()
    await traceBoot(core, core.versionId)
    const reading = Promise.withResolvers<void>()
    const mayRead = Promise.withResolvers<void>()
    const openVersion = core.chunkStore.openVersion.bind(core.chunkStore)
    core.chunkStore.openVersion = async (versionId) => {
      const reader = await openVersion(versionId)
      const readObject = reader.readObject.bind(reader)
      reader.readObject = async (name, target) => {
        reading.resolve()
        await mayRead.promise
        assert.ok(!isClosed, 'read after it was closed')
        return await readObject(name, target)
      }
      const close = reader.close.bind(reader)
      let isClosed = false
      reader.close = async () => {
        isClosed = true
        await close()
      }
      return reader
    }
    const gone = new Agent(core)
    await gone.greet()
    gone.say({ kind: 'open', vdisk: 'debian', firstPushBytes: 0 })
    await reading.promise
    gone.session.disconnected()
    mayRead.resolve()
    await eventually('the version is closed', () => core.chunkStore.openReaders === 0)
    const agent = new Agent(core)
    await agent.greet({ mac: '52:54:00:00:00:02', bootId: 'd'.repeat(32) })
    await agent.open('debian')
    assert.equal((await agent.socket.nextBootList())[0]?.level, 1)
  })

  it('is made of four traces of a session at most', async () => {
    const core = await createLargeCore()
    const record = mock.method(core.traces, 'record')
    const agent = new Agent(core)
    await agent.greet()
    await agent.open('debian')
    for (let trace = 0; trace < 9; trace += 1) {
      agent.session.receive(encodeTrace([{ position: 0, atMs: trace }]))
    }
    agent.ask(0)
    await agent.socket.nextObject() // the session goes on
    assert.equal(record.mock.callCount(), 4)
  })

  it('of the next boot is what the trace of the first one said', async () => {
    const core = await createLargeCore()
    const agent = new Agent(core)
    await agent.greet({ facts: { macs: ['52:54:00:00:00:01'], product: 'PC' } })
    await agent.open('debian')
    const reader = await core.chunkStore.openVersion(core.versionId)
    const [first, second] = [reader.chunks.firstBlock(5), reader.chunks.firstBlock(2)]
    agent.session.receive(
      encodeTrace([
        { position: first, atMs: 10 },
        { position: second, atMs: 20 },
        { position: first + 1, atMs: 30 }, // no first block
        { position: 150, atMs: 30 }, // zero
        { position: second, atMs: 40 }, // again
        { position: 4_000_000, atMs: 50 },
      ]),
    )
    await eventually('the trace is kept', async () => {
      return (await core.traces.view(core.versionId, reader.chunks)).source === 'recorded'
    })
    const next = new Agent(core)
    await next.greet({ mac: '52:54:00:00:00:02', bootId: 'd'.repeat(32) })
    await next.open('debian')
    const list = await next.socket.nextBootList()
    assert.deepEqual(
      list.map(({ level, position }) => [level, position]),
      [
        [1, 0],
        [0, first],
        [0, second],
      ],
    )
  })
})

describe('hydration', () => {
  it('is told at once when the administrator changes it, and only then', async () => {
    const core = await createOpenCore()
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    await agent.open('debian')
    await core.registry.assign(clientId, ['debian'], { only: true })
    await core.registry.setHydration(clientId, { mode: 'pause' })
    const { hydration } = await agent.socket.nextMessage('hydrate')
    assert.equal(hydration.mode, 'pause')
    await core.registry.setHydration(clientId, { mode: 'pause' })
    await core.registry.setHydration(clientId, { rateBytesPerSecond: 1000 })
    const next = await agent.socket.nextMessage('hydrate')
    assert.deepEqual(next.hydration, { mode: 'pause', rateBytesPerSecond: 1000 })
  })
})

describe('settings', () => {
  it('reach a running system, and nothing else of its identity does', async () => {
    const core = await createOpenCore()
    await core.addVDisk('other')
    const agent = new Agent(core)
    const { clientId } = await agent.greet()
    await agent.open('debian')
    await core.registry.assign(clientId, ['other'], { only: false })
    await core.registry.refuse(clientId)
    await core.clientSettings.set(clientId, {
      values: { URL: { value: 'x', isSecret: false }, KEY: { value: 'y', isSecret: true } },
    })
    core.registry.changes.emit(clientId)
    const { settings, state } = await agent.socket.nextMessage('identity')
    assert.deepEqual([settings?.values, state], [[{ name: 'URL', value: 'x' }], 'approved'])
    await core.registry.rename(clientId, 'reception')
    assert.equal((await agent.socket.nextMessage('identity')).hostname, 'reception')
  })

  it('are told to nobody who waits', async () => {
    const core = createTestCore()
    const { settings, state } = await new Agent(core).greet()
    assert.deepEqual([settings, state], [undefined, 'pending'])
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
    await core.catalog.remove('debian', { force: true })
    const back = new Agent(core)
    await back.greet()
    back.say({ kind: 'open', vdisk: 'debian', versionId, firstPushBytes: 0 })
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
    back.ask(0)
    await back.socket.nextObject()
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
    agent.ask(0)
    await agent.socket.nextObject()
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
      writeCachePlaces: ['ram'],
      writesWaiting: 0,
      demandReads: 5,
      demandReadBytes: 6,
      chunksReceived: 7,
      wireBytesReceived: 8,
      objectsCorrupt: 9,
      prefetch: { hits: 1, late: 2, misses: 3, pushedBytes: 4, unusedBytes: 5 },
      diskCache: {
        state: 'none',
        usedBytes: 0,
        capacityBytes: 0,
        writeBudgetLeftBytes: 0,
        problem: '',
      },
      hydration: { mode: 'off', localBytes: 0, versionBytes: 0 },
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
      [Uint8Array.of(9, 1, 2), /a frame of type 9 came before/],
      [Uint8Array.of(3, 0, 0, 0), /a frame of type 3 came before/],
      [Uint8Array.of(1, 0xd9, 0x20), /not msgpack/],
      [Uint8Array.of(1, 0x80), /Cannot read the agent's message/],
      [Uint8Array.of(2, 0, 0), /a frame of type 2 came before/],
      [Uint8Array.of(4, 0, 0), /came before a vDisk is open/],
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
