import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { silentLog } from '#server/log.ts'
import { Session } from '#server/stream/session.ts'
import { encodeMessage } from '#shared/wire/codec.ts'
import { encodePush, encodeRequest, encodeTrace } from '#shared/wire/frame.ts'
import { hello } from '#test/support/agent-messages.ts'
import { blockImage } from '#test/support/block-image.ts'
import { FakeSessionSocket } from '#test/support/fake-session-socket.ts'
import { createTestCore } from '#test/support/server-core.ts'

const RUNS = { numRuns: 200 }

/** Random bytes, most of them behind a valid frame type so that they get further. */
const frame = fc
  .tuple(fc.constantFrom(0, 1, 1, 2, 4, 4, 5, 7, 7, 8, 8, 255), fc.uint8Array({ maxLength: 40 }))
  .map(([type, body]) => Uint8Array.of(type, ...body))

/** Frames that are right in form, and name what there is and is not. */
const small = fc.nat(40)
const wellFormed = fc.oneof(
  fc
    .record({
      priority: fc.constantFrom(0, 1, 2),
      objects: fc.array(fc.record({ level: fc.nat(2), position: small }), { maxLength: 300 }),
    })
    .filter(({ objects }) => objects.length <= 256)
    .map((request) => encodeRequest(request)),
  fc
    .array(fc.record({ begin: small, end: small }), { maxLength: 5 })
    .map((ranges) => encodePush(ranges)),
  fc
    .array(fc.record({ position: small, atMs: small }), { maxLength: 5 })
    .map((entries) => encodeTrace(entries.sort((a, b) => a.atMs - b.atMs))),
)

async function createSession(greeted: boolean) {
  const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'debian' } })
  const versionId = await core.addVDisk('debian', blockImage(40, 'fuzz'))
  const reader = await core.chunkStore.openVersion(versionId)
  const entries = [{ position: 0, atMs: 0 }]
  await core.traces.record(reader, {
    bootId: 'a'.repeat(32),
    clientId: 'c1',
    isConfirmed: true,
    model: '',
    entries,
  })
  const socket = new FakeSessionSocket()
  const session = new Session(socket, '192.0.2.1', {
    ...core,
    settings: { serverName: 'server', menuSeconds: 10, enrolSecret: Buffer.alloc(32) },
    now: () => core.clock.nowMs,
    log: silentLog(),
  })
  if (greeted) {
    session.receive(encodeMessage(hello()))
    await socket.nextMessage('identity')
    session.receive(encodeMessage({ kind: 'open', vdisk: 'debian', firstPushBytes: 0 }))
    await socket.nextMessage('opened')
    await socket.nextBootList()
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

it('an open session answers or closes, and never throws, whatever it gets', async () => {
  const frames = fc.array(fc.oneof(frame, wellFormed), { minLength: 1, maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(frames, async (frames) => {
      const { session, socket } = await createSession(true)
      for (const bytes of frames) session.receive(bytes)
      await new Promise(setImmediate)
      const ends = socket.pending.filter((item) => 'closed' in item)
      assert.equal(ends.length, session.state === 'closed' ? 1 : 0)
    }),
    RUNS,
  )
})
