/** The life after the boot, with a scripted server and the files of /run/bootwire. */
import assert from 'node:assert/strict'
import { afterEach, before, beforeEach, describe, it } from 'node:test'
import { RunFolder } from '#agent/boot/run-folder.ts'
import { type ServeParts, serveUntilShutdown } from '#agent/boot/serve-until-shutdown.ts'
import { NO_LOCAL_COPY } from '#agent/fetch/local-copy.ts'
import type { ServerKey } from '#server/tls/server-key.ts'
import {
  createServerKey,
  openedBy,
  type ScriptedPeer,
  ScriptedServer,
} from '#test/support/agent-scripted-server.ts'
import { createSession, type TestSession } from '#test/support/agent-session.ts'
import { eventually } from '#test/support/eventually.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const STATS = {
  ramTierBytes: 1,
  writeCacheBytes: 2,
  writeCacheLimitBytes: 3,
  writeCachePlaces: ['ram' as const],
  writesWaiting: 0,
  demandReads: 4,
  demandReadBytes: 5,
  chunksReceived: 6,
  objectsCorrupt: 0,
  prefetch: { hits: 7, late: 8, misses: 9, pushedBytes: 10, unusedBytes: 11 },
  ...NO_LOCAL_COPY.status(),
}

describe('serveUntilShutdown', { timeout: 20_000 }, () => {
  let key: ServerKey
  let server: ScriptedServer
  let temporary: TemporaryFolder
  let session: TestSession
  let parts: ServeParts
  let announced: string[]
  let isDetached: boolean
  let bootEnds: boolean[]
  let serving: Promise<void>
  const ended = Promise.withResolvers<unknown>()

  before(async () => {
    key = await createServerKey()
  })
  beforeEach(async () => {
    server = await ScriptedServer.start(key)
    temporary = await createTemporaryFolder()
    session = createSession(server, { limits: { byeTimeoutMs: 5_000 } })
    announced = []
    isDetached = false
    bootEnds = []
    const detach = async () => {
      isDetached = true
    }
    parts = {
      session,
      vdisk: {
        stats: () => STATS,
        ended: ended.promise,
        detach,
        endBoot: (isWhole) => bootEnds.push(isWhole),
        runsAlone: false,
        longestWaitMs: 0,
        goDown: () => undefined,
        failWaiting: () => undefined,
        isKept: false,
        writesWaiting: 0,
      },
      runFolder: new RunFolder(temporary.path),
      consoles: { announce: (text) => announced.push(text) },
    }
    session.resume(openedBy(key))
    session.start()
  })
  afterEach(async () => {
    parts.runFolder.write('shutdown', 'halt\n')
    await server[Symbol.asyncDispose]()
    await serving.catch(() => undefined)
    await temporary[Symbol.asyncDispose]()
  })

  async function openPeer(): Promise<ScriptedPeer> {
    const peer = await server.nextPeer()
    await peer.greet()
    await peer.nextMessage('open')
    return peer
  }

  it('detaches, says bye with what comes next, and only then that it is done', async () => {
    serving = serveUntilShutdown(parts)
    const peer = await openPeer()
    peer.say(openedBy(key))
    parts.runFolder.write('shutdown', 'reboot\n')
    const { chunksReceived, rssBytes } = await peer.nextMessage('status')
    assert.equal(chunksReceived, 6)
    assert.ok(rssBytes > 0)
    assert.deepEqual(await peer.nextMessage('bye'), { kind: 'bye', reason: 'reboot' })
    assert.ok(isDetached)
    assert.equal(parts.runFolder.read('shutdown-done'), undefined, 'the server closes first')
    peer.websocket.close(1000)
    await serving
    assert.equal(parts.runFolder.read('shutdown-done'), '')
  })

  it('says bye also when the device cannot be detached, and why that is', async () => {
    const detach = () => Promise.reject(new Error('the supervisor is gone'))
    serving = serveUntilShutdown({ ...parts, vdisk: { ...parts.vdisk, detach } })
    const peer = await openPeer()
    peer.say(openedBy(key))
    parts.runFolder.write('shutdown', 'poweroff\n')
    await peer.nextMessage('status')
    assert.match((await peer.nextMessage('notice')).message, /the supervisor is gone$/)
    assert.equal((await peer.nextMessage('bye')).reason, 'poweroff')
    peer.websocket.close(1000)
    await serving
    assert.equal(parts.runFolder.read('shutdown-done'), '')
  })

  it('says that the root is mounted, once it is', async () => {
    serving = serveUntilShutdown(parts)
    const peer = await openPeer()
    peer.say(openedBy(key))
    parts.runFolder.write('root-mounted', '')
    assert.equal((await peer.nextMessage('phase')).phase, 'root-mounted')
    parts.runFolder.write('shutdown', 'poweroff\n')
    await peer.nextMessage('status')
    await peer.nextMessage('bye')
    peer.websocket.close(1000)
    await serving
  })

  it('tells the server why the root was not mounted', async () => {
    serving = serveUntilShutdown(parts)
    const peer = await openPeer()
    peer.say(openedBy(key))
    parts.runFolder.write('failed', 'BW-E404 Cannot mount /dev/nbd0')
    const { level, message } = await peer.nextMessage('notice')
    assert.deepEqual([level, message], ['error', 'BW-E404 Cannot mount /dev/nbd0'])
  })

  it('tells who sits there when a server that is there refuses the vDisk, once', async () => {
    serving = serveUntilShutdown(parts)
    const refusal = { kind: 'error', code: 'VDISK_GONE', message: 'Cannot open it' } as const
    for (let connections = 0; connections < 2; connections += 1) {
      const peer = await openPeer()
      peer.say(refusal)
      peer.say(refusal)
      await eventually('the refusal is known', () => session.connection.error !== undefined)
      peer.websocket.terminate()
    }
    assert.deepEqual(announced, [
      'BW-E309 Cannot open it\n  Assign another vDisk to this client on the server',
    ])
  })

  it('fails when the kernel no longer asks, so that the next agent attaches again', async () => {
    ended.resolve('closed')
    serving = serveUntilShutdown(parts)
    await assert.rejects(serving, /The kernel no longer asks for anything/)
    assert.equal(parts.runFolder.read('shutdown-done'), undefined)
    await session[Symbol.asyncDispose]()
  })
})
