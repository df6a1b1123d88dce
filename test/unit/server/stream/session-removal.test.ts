import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { silentLog } from '#server/log.ts'
import { Session } from '#server/stream/session.ts'
import { encodeMessage } from '#shared/wire/codec.ts'
import type { AgentMessage } from '#shared/wire/messages.ts'
import { hello } from '#test/support/agent-messages.ts'
import { eventually } from '#test/support/eventually.ts'
import { FakeSessionSocket } from '#test/support/fake-session-socket.ts'
import { createTestCore, imageOf } from '#test/support/server-core.ts'

/** A client that is about to open its vDisk. */
async function createClient() {
  const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'os' } })
  const versionId = await core.addVDisk('os', imageOf('old'))
  const socket = new FakeSessionSocket()
  const settings = { serverName: 'server', menuSeconds: 10, enrolSecret: Buffer.alloc(32) }
  const now = () => core.clock.nowMs
  const session = new Session(socket, '192.0.2.1', { ...core, settings, now, log: silentLog() })
  const say = (message: AgentMessage) => session.receive(encodeMessage(message))
  say(hello())
  await socket.nextMessage('identity')
  const open = () => say({ kind: 'open', vdisk: 'os', firstPushBytes: 0 })
  return { core, versionId, socket, open }
}

describe('a version that is removed while a client opens it', () => {
  it('is never both, at whichever moment', async () => {
    const outcomes = new Set<string>()
    for (let turns = 0; turns < 60; turns += 1) {
      const { core, versionId, socket, open } = await createClient()
      open()
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve()
      const removing = core.catalog.remove('os').then(
        () => true,
        () => false,
      )
      const [removed, answer] = await Promise.all([removing, socket.next()])
      const isOpened = 'message' in answer && answer.message.kind === 'opened'
      outcomes.add(`${isOpened} ${removed}`)
      assert.ok(!(isOpened && removed), `after ${turns} turns`)
      assert.equal((await core.catalog.version('os', versionId)) === undefined, removed)
      // Who began to open it has read it for a moment.
      if (removed) await core.catalog.sweep()
      assert.equal((await core.chunkStore.listVersions()).includes(versionId), !removed)
      assert.equal(core.chunkStore.openReaders, isOpened ? 1 : 0)
    }
    assert.ok(outcomes.has('true false'), 'some were opened')
  })

  it('is gone for the client when it was removed before the client had it', async () => {
    const { core, versionId, socket, open } = await createClient()
    const mayOpen = Promise.withResolvers<void>()
    const openVersion = core.chunkStore.openVersion.bind(core.chunkStore)
    let isOpening = false
    core.chunkStore.openVersion = async (versionId) => {
      isOpening = true
      await mayOpen.promise
      return await openVersion(versionId)
    }
    open()
    await eventually('it opens the version', () => isOpening)
    await core.catalog.remove('os')
    assert.deepEqual(await core.chunkStore.listVersions(), [versionId], 'read, so it stays')
    mayOpen.resolve()
    assert.equal((await socket.nextMessage('error')).code, 'VDISK_GONE')
    await eventually('nobody reads it', () => core.chunkStore.openReaders === 0)
    await core.catalog.sweep()
    assert.deepEqual(await core.chunkStore.listVersions(), [])
  })
})
