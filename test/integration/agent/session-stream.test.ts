/** What a session carries between a server and the fetcher, frame by frame. */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import type { ObjectListener } from '#agent/fetch/object-transport.ts'
import type { ServerKey } from '#server/tls/server-key.ts'
import { firstPushCount } from '#shared/wire/first-push.ts'
import { PRIORITY, type TraceEntry } from '#shared/wire/frame.ts'
import { BOOT_LIST_ENTRIES_MAX } from '#shared/wire/limits.ts'
import type { Hydration } from '#shared/wire/messages.ts'
import {
  createServerKey,
  openedBy,
  type ScriptedPeer,
  ScriptedServer,
  versionBy,
} from '#test/support/agent-scripted-server.ts'
import { createSession, type TestSession, until } from '#test/support/agent-session.ts'
import { eventually } from '#test/support/eventually.ts'

const TIMEOUT = { timeout: 30_000 }
const SIGNAL = new AbortController().signal

let key: ServerKey
before(async () => {
  key = await createServerKey()
})

class Recorder implements ObjectListener {
  readonly calls: string[] = []

  onOpen(): void {
    this.calls.push('open')
  }

  onLost(): void {
    this.calls.push('lost')
  }

  onBootList(entries: readonly unknown[], pushed: number): void {
    this.calls.push(`list ${entries.length} ${pushed}`)
  }

  onObject({ level, position }: { level: number; position: number }, payload: Uint8Array): void {
    this.calls.push(`object ${level}/${position} ${payload.length}`)
  }
}

/** A session whose vDisk is open. */
async function openSession(server: ScriptedServer, session: TestSession): Promise<ScriptedPeer> {
  session.start()
  const opening = session.open({ vdisk: 'debian' }, SIGNAL)
  const peer = await server.nextPeer()
  await peer.greet()
  await peer.nextMessage('open')
  peer.say(openedBy(key))
  await opening
  return peer
}

describe('AgentSession as a transport', TIMEOUT, () => {
  it('keeps what comes before anybody listens, and hands it on in its order', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server)
    session.start()
    const opening = session.open({ vdisk: 'debian' }, SIGNAL)
    const peer = await server.nextPeer()
    await peer.greet()
    const { firstPushBytes } = await peer.nextMessage('open')
    assert.ok(firstPushBytes > 0)
    const version = versionBy(key)
    const list = version.bootList(version.chunks.map(({ firstBlock }) => firstBlock))
    const objects = list.slice(0, 3).map((name) => version.object(name))
    peer.say(version.opened())
    peer.sendBootList(list)
    for (const object of objects) peer.sendObject(object)
    await opening
    await eventually('all came', () => session.wireBytesReceived > 1000 + list.length * 8)
    const recorder = new Recorder()
    session.listen(recorder)
    await eventually('all is handed on', () => recorder.calls.length === 5)
    assert.deepEqual(recorder.calls, [
      'open',
      `list ${list.length} ${firstPushCount(list, firstPushBytes)}`,
      ...objects.map(
        ({ header, payload }) => `object ${header.level}/${header.position} ${payload.length}`,
      ),
    ])
  })

  it('asks for no push where it was told so, nor on a later connection', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server, { firstPushBytes: () => 12_345 })
    session.start()
    const opening = session.open({ vdisk: 'debian' }, SIGNAL)
    const first = await server.nextPeer()
    await first.greet()
    assert.equal((await first.nextMessage('open')).firstPushBytes, 12_345)
    first.say(openedBy(key))
    await opening
    const recorder = new Recorder()
    session.listen(recorder)
    first.websocket.terminate()
    const second = await server.nextPeer()
    await second.greet()
    assert.equal((await second.nextMessage('open')).firstPushBytes, 0)
    second.say(openedBy(key))
    await until(session, () => session.isOpen)
    assert.deepEqual(recorder.calls, ['open', 'lost', 'open'])
  })

  it('drops what came early when its connection is lost', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server)
    const first = await openSession(server, session)
    const bytes = session.wireBytesReceived
    first.sendObject(versionBy(key).object({ level: 1, position: 0 }))
    await eventually('it came', () => session.wireBytesReceived > bytes)
    first.websocket.terminate()
    const second = await server.nextPeer()
    await second.greet()
    await second.nextMessage('open')
    second.say(openedBy(key))
    await until(session, () => session.isOpen)
    const recorder = new Recorder()
    session.listen(recorder)
    assert.deepEqual(recorder.calls, ['open'])
  })

  it('sends requests, pushes and the longest trace, and none while there is no vDisk', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server)
    const request = { priority: PRIORITY.hydration, objects: [{ level: 1, position: 7 }] }
    const ranges = [{ begin: 3, end: 9 }]
    const trace: TraceEntry[] = Array.from({ length: BOOT_LIST_ENTRIES_MAX }, (_, at) => ({
      position: at * 3,
      atMs: at,
    }))
    session.request(request)
    session.push(ranges)
    session.sendTrace(trace)
    const peer = await openSession(server, session)
    session.request(request)
    session.push(ranges)
    session.sendTrace(trace)
    assert.deepEqual(await peer.nextRequest(), request)
    assert.deepEqual(await peer.nextPush(), ranges)
    assert.deepEqual(await peer.nextTrace(), trace)
  })

  it('tells of the hydration that the administrator wants, also of one changed meanwhile', async () => {
    await using server = await ScriptedServer.start(key)
    await using session = createSession(server)
    const heard: Hydration[] = []
    session.onHydrate((hydration) => heard.push(hydration))
    const first = await openSession(server, session)
    const run = { mode: 'run', rateBytesPerSecond: 5 } as const
    first.say({ kind: 'hydrate', hydration: run })
    await eventually('it is heard', () => heard.length === 1)
    first.websocket.terminate()
    const second = await server.nextPeer()
    await second.greet()
    await second.nextMessage('open')
    const pause = { mode: 'pause', rateBytesPerSecond: 0 } as const
    second.say(openedBy(key, { hydration: pause }))
    await until(session, () => session.isOpen)
    assert.deepEqual(heard, [run, pause])
  })
})
