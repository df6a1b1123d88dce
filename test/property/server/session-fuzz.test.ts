import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { silentLog } from '#server/log.ts'
import { FramePool } from '#server/stream/frame-pool.ts'
import { Session } from '#server/stream/session.ts'
import { encodeMessage } from '#shared/wire/codec.ts'
import { hello } from '#test/support/agent-messages.ts'
import { FakeSessionSocket } from '#test/support/fake-session-socket.ts'
import { createTestCore } from '#test/support/server-core.ts'

const RUNS = { numRuns: 200 }

/** Random bytes, most of them behind a valid frame type so that they get further. */
const frame = fc
  .tuple(fc.constantFrom(0, 1, 1, 1, 2, 2, 3, 255), fc.uint8Array({ maxLength: 40 }))
  .map(([type, body]) => Uint8Array.of(type, ...body))

async function createSession(greeted: boolean) {
  const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'debian' } })
  await core.addVDisk('debian')
  const socket = new FakeSessionSocket()
  const session = new Session(socket, '192.0.2.1', {
    ...core,
    frames: new FramePool(),
    settings: { serverName: 'server', menuSeconds: 10 },
    now: () => core.clock.nowMs,
    log: silentLog(),
  })
  if (greeted) {
    session.receive(encodeMessage(hello()))
    await socket.nextMessage('identity')
    session.receive(encodeMessage({ kind: 'open', vdisk: 'debian' }))
    await socket.nextMessage('opened')
  }
  return { session, socket }
}

it('a session closes with an error and never throws when it gets random bytes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 5 }), async (frames) => {
      const { session, socket } = await createSession(false)
      for (const bytes of frames) session.receive(bytes)
      await new Promise(setImmediate)
      assert.equal(session.state, 'closed')
      assert.equal((await socket.nextMessage('error')).code, 'MESSAGE_INVALID')
      assert.equal((await socket.nextClose()).code, 1002)
      assert.equal(socket.pending.length, 0)
    }),
    RUNS,
  )
})

it('an open session answers or closes, and never throws, when it gets random bytes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 5 }), async (frames) => {
      const { session, socket } = await createSession(true)
      for (const bytes of frames) session.receive(bytes)
      await new Promise(setImmediate)
      const ends = socket.pending.filter((item) => 'closed' in item)
      assert.equal(ends.length, session.state === 'closed' ? 1 : 0)
    }),
    RUNS,
  )
})
