/** The agent's session with the product's own server, over real TLS. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { type Overlay, openOverlay } from '#agent/block/open-overlay.ts'
import { RAM_TIER_BYTES_MIN } from '#agent/ram-tier/ram-tier.ts'
import type { AgentSession } from '#agent/session/agent-session.ts'
import { verifiedRoot } from '#agent/session/opened-version.ts'
import type { ServerKey } from '#server/tls/server-key.ts'
import { invariant } from '#shared/invariant.ts'
import { type SignedRoot, signVersionRoot } from '#shared/manifest/version-root.ts'
import type { Opened } from '#shared/wire/messages.ts'
import { BOOT_ID } from '#test/support/agent-messages.ts'
import { CuttableNetwork } from '#test/support/agent-network.ts'
import { createServerKey, signingKeyOf } from '#test/support/agent-scripted-server.ts'
import { createSession, until, untilDown, untilUp } from '#test/support/agent-session.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTestCore, imageOf, type TestCore } from '#test/support/server-core.ts'
import { startStream } from '#test/support/stream-fixture.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMEOUT = { timeout: 60_000 }
const SIGNAL = new AbortController().signal

const IMAGE = imageOf('debian', 1000 * 4096 + 512)

let key: ServerKey
before(async () => {
  key = await createServerKey()
})

/** As the server does with its key: what another signed is not opened. */
function sign(record: Uint8Array): SignedRoot {
  const { keyPem, signerKey } = signingKeyOf(key)
  return signVersionRoot(record, keyPem, signerKey)
}

async function createCore(): Promise<TestCore> {
  const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'debian' }, sign })
  await core.addVDisk('debian', IMAGE)
  return core
}

function overlayOf(opened: Opened, session: AgentSession, folder: string): Promise<Overlay> {
  return openOverlay({
    root: verifiedRoot(opened, key.pin),
    isBoot: true,
    versionId: opened.versionId,
    ramTierBytes: RAM_TIER_BYTES_MIN,
    writeCacheFolder: join(folder, 'write-cache'),
    writeCacheLimitBytes: 1_000_000,
    transport: session,
    onNotice: ({ kind }) => assert.fail(kind),
  })
}

/** Reads the whole vDisk as a kernel would, and compares it. `onPart` is called after each read. */
async function readWhole(overlay: Overlay, onPart: (doneBytes: number) => Promise<void> | void) {
  const { cold, sizeBytes } = overlay.device
  invariant(cold !== undefined, 'the overlay has a cold side')
  assert.equal(sizeBytes, IMAGE.length)
  const stepBytes = 64 * 1024
  for (let done = 0; done < sizeBytes; done += stepBytes) {
    const target = Buffer.alloc(Math.min(stepBytes, sizeBytes - done))
    const read = cold.read(done, target)
    await onPart(done)
    await read
    assert.ok(target.equals(IMAGE.subarray(done, done + target.length)), `bytes from ${done}`)
  }
}

async function bootOf(core: TestCore) {
  const [boot] = await core.boots.list()
  invariant(boot !== undefined, 'a boot')
  return boot
}

describe('a vDisk over connections that are lost', TIMEOUT, () => {
  it('is read byte for byte while the network is cut again and again', async () => {
    await using temporary = await createTemporaryFolder()
    await using stream = await startStream({ core: await createCore(), key })
    await using network = await CuttableNetwork.create(() => stream.port)
    network.cutAfterBytes = 1_000_003 // in the middle of a frame: no multiple of anything
    await using session = createSession({ port: network.port, pin: key.pin })
    session.start()
    const overlay = await overlayOf(
      await session.open({ vdisk: 'debian' }, SIGNAL),
      session,
      temporary.path,
    )
    await readWhole(overlay, () => undefined)
    await overlay.close()
    assert.ok(network.connections >= 4, `${network.connections} connections`)
    assert.equal((await stream.core.boots.list()).length, 1, 'it is one boot')
  })

  it('is read byte for byte over restarts of the server on the same port', async () => {
    await using temporary = await createTemporaryFolder()
    const core = await createCore()
    let stream = await startStream({ core, key })
    const { port } = stream
    await using session = createSession({ port, pin: key.pin })
    session.start()
    const opened = await session.open({ vdisk: 'debian' }, SIGNAL)
    const overlay = await overlayOf(opened, session, temporary.path)
    let restarts = 0
    await readWhole(overlay, async (doneBytes) => {
      if (doneBytes < (restarts + 1) * 1_000_000) return
      restarts += 1
      await stream[Symbol.asyncDispose]()
      await untilDown(session)
      assert.equal(session.connection.error?.code, 'SERVER_UNREACHABLE')
      assert.match(session.connection.error?.message ?? '', /the server stops$/)
      stream = await startStream({ core, key, port })
    })
    await overlay.close()
    assert.equal(restarts, 4)
    await session.bye('poweroff')
    await stream[Symbol.asyncDispose]()
  })

  it('is the same version on the next connection', async () => {
    const core = await createCore()
    await using stream = await startStream({ core, key })
    await using network = await CuttableNetwork.create(() => stream.port)
    await using session = createSession({ port: network.port, pin: key.pin })
    session.start()
    const { versionId } = await session.open({ vdisk: 'debian' }, SIGNAL)
    network.cut()
    await untilDown(session)
    await until(session, () => session.isOpen)
    const boot = await bootOf(core)
    assert.equal(boot.versionId, versionId)
  })
})

describe('what an agent tells', TIMEOUT, () => {
  it('phases and notices of a time without a server arrive, each once', async () => {
    const core = await createCore()
    await using stream = await startStream({ core, key })
    await using network = await CuttableNetwork.create(() => stream.port)
    await using session = createSession({ port: network.port, pin: key.pin })
    session.phase('agent', 1)
    session.notice('warning', 'before the first connection')
    session.start()
    await untilUp(session)
    session.phase('network', 2)
    await eventually('it is heard', async () => (await bootOf(core)).notices.length === 1)
    network.cut()
    await untilDown(session)
    session.phase('chosen', 3)
    session.notice('error', 'n'.repeat(5000))
    await untilUp(session)
    const phases = async () => (await bootOf(core)).phases.map(({ phase }) => phase)
    await eventually('all phases are there', async () => (await phases()).includes('chosen'))
    await eventually('the notices, too', async () => (await bootOf(core)).notices.length === 2)
    const names = await phases()
    for (const phase of ['agent', 'network', 'chosen'] as const) {
      assert.equal(names.filter((it) => it === phase).length, 1, phase)
    }
    const { notices } = await bootOf(core)
    assert.deepEqual(
      notices.map(({ level, message }) => [level, message.length]),
      [
        ['warning', 27],
        ['error', 1024],
      ],
    )
  })

  it('keeps the last 16 notices of a long time without a server', async () => {
    const core = await createCore()
    await using stream = await startStream({ core, key })
    await using session = createSession({ port: stream.port, pin: key.pin })
    for (let index = 0; index < 40; index += 1) session.notice('info', `notice ${index}`)
    session.start()
    await untilUp(session)
    const notices = async () => (await bootOf(core)).notices
    await eventually('they are there', async () => (await notices()).length === 16)
    assert.equal((await notices())[0]?.message, 'notice 24')
  })

  it('bye is a clean end, and the last thing said', async () => {
    const core = await createCore()
    await using stream = await startStream({ core, key })
    const session = createSession({ port: stream.port, pin: key.pin }, { limits: LONG_BYE })
    session.start()
    await session.open({ vdisk: 'debian' }, SIGNAL)
    await session.bye('reboot')
    await eventually('the boot ended so', async () => (await bootOf(core)).end === 'reboot')
    await eventually('nothing is left', () => stream.stream.connectionCount === 0)
  })

  it('bye does not wait for a server that is not there, nor for one that is stuck', async () => {
    const session = createSession({ port: 1, pin: key.pin }, { limits: LONG_BYE })
    session.start()
    await until(session, () => session.connection.error !== undefined)
    await session.bye('poweroff')
    const stuck = createServer()
    stuck.listen(0, '127.0.0.1')
    await once(stuck, 'listening')
    const { port } = stuck.address() as AddressInfo
    const connecting = createSession({ port, pin: key.pin }, { limits: LONG_BYE })
    connecting.start()
    const [socket] = (await once(stuck, 'connection')) as [{ destroy(): void }]
    await connecting.bye('poweroff')
    socket.destroy()
    stuck.close()
  })
})

/** Longer than any test: who waits for it is seen. */
const LONG_BYE = { byeTimeoutMs: 100_000 }

describe('servers and administrators', TIMEOUT, () => {
  it('goes to the next of several servers, and back when that one is lost', async () => {
    await using first = await startStream({ core: await createCore(), key })
    await using second = await startStream({ core: await createCore(), key })
    await using network = await CuttableNetwork.create(() => second.port)
    const servers = [1, network.port, first.port].map((port) => ({ host: '127.0.0.1', port }))
    await using session = createSession({ port: 1, pin: key.pin }, { servers })
    session.start()
    await untilUp(session)
    assert.equal(session.connection.server.port, network.port)
    network.cut()
    await untilDown(session)
    await untilUp(session)
    assert.equal(session.connection.server.port, first.port)
  })

  it('says hello anew when the administrator removes the client', async () => {
    const core = createTestCore()
    await core.addVDisk('debian', IMAGE)
    await using stream = await startStream({ core, key })
    await using session = createSession({ port: stream.port, pin: key.pin })
    session.start()
    await untilUp(session)
    const { clientId = '' } = session.identity ?? {}
    await core.registry.remove(clientId)
    await untilDown(session)
    assert.match(session.connection.error?.message ?? '', /this client was removed/)
    await untilUp(session)
    assert.equal(session.identity?.state, 'pending')
    assert.notEqual(session.identity?.clientId, clientId)
  })

  it('learns at once what the administrator assigns', async () => {
    const core = createTestCore()
    await core.addVDisk('debian', IMAGE)
    await using stream = await startStream({ core, key })
    await using session = createSession({ port: stream.port, pin: key.pin })
    session.start()
    await untilUp(session)
    const { clientId = '' } = session.identity ?? {}
    await core.registry.assign(clientId, ['debian'], { only: false })
    await core.registry.approve(clientId)
    await until(session, () => session.identity?.offers.length === 1)
    assert.equal(session.identity?.state, 'approved')
  })

  it('VDISK_GONE: a vDisk that is not there; another can be opened after it', async () => {
    await using stream = await startStream({ core: await createCore(), key })
    await using session = createSession({ port: stream.port, pin: key.pin })
    session.start()
    await untilUp(session)
    await assert.rejects(session.open({ vdisk: 'none' }, SIGNAL), { code: 'VDISK_GONE' })
    assert.ok(session.connection.isUp)
    assert.equal((await session.open({ vdisk: 'debian' }, SIGNAL)).vdisk, 'debian')
  })

  it('open ends with the reason of its signal, while it waits and before', async () => {
    await using session = createSession({ port: 1, pin: key.pin })
    session.start()
    const controller = new AbortController()
    const waiting = session.open({ vdisk: 'debian' }, controller.signal)
    controller.abort('enough')
    await assert.rejects(waiting, (error) => error === 'enough')
    await assert.rejects(
      session.open({ vdisk: 'debian' }, controller.signal),
      (error) => error === 'enough',
    )
  })

  it('gives up to another boot of the same client when it cannot be heard, and comes back later', async () => {
    await using stream = await startStream({ core: await createCore(), key })
    await using network = await CuttableNetwork.create(() => stream.port)
    const limits = { supersededPauseMs: 50 }
    await using session = createSession({ port: network.port, pin: key.pin }, { limits })
    session.start()
    await untilUp(session)
    network.areAgentsMute = true
    const other = createSession({ port: stream.port, pin: key.pin }, { bootId: `${BOOT_ID}00` })
    other.start()
    await untilUp(other)
    await untilDown(session)
    assert.match(session.connection.error?.message ?? '', /another connection of this client/)
    network.areAgentsMute = false
    await other.bye('halt')
    await untilUp(session)
  })
})
