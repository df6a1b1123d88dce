/** Two machines that say they are the same client, over real TLS. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BOOT_ID, hello } from '#test/support/agent-messages.ts'
import { createServerKey } from '#test/support/agent-scripted-server.ts'
import { createSession, until, untilUp } from '#test/support/agent-session.ts'
import { createTestCore } from '#test/support/server-core.ts'
import { startStream, TestAgent } from '#test/support/stream-fixture.ts'

const TIMEOUT = { timeout: 60_000 }
const OTHER_BOOT_ID = 'c'.repeat(32)

describe('one live boot per client', TIMEOUT, () => {
  it('lets a second machine wait until the first is switched off, and says so to all', async () => {
    const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'lab' } })
    await core.addVDisk('lab')
    const key = await createServerKey()
    await using stream = await startStream({ core, key })
    const first = createSession({ port: stream.port, pin: key.pin })
    first.start()
    await untilUp(first)
    await using second = createSession(
      { port: stream.port, pin: key.pin },
      { bootId: OTHER_BOOT_ID },
    )
    second.start()
    await until(second, () => second.connection.error?.code === 'IDENTITY_IN_USE')
    assert.match(
      second.connection.error?.message ?? '',
      /another machine at 127\.0\.0\.1 runs as it/,
    )
    assert.equal(first.connection.isUp, true)
    const clientId = first.identity?.clientId ?? ''
    const [boot] = await core.boots.list(clientId)
    assert.match(
      boot?.notices[0]?.message ?? '',
      /Another machine, at 127\.0\.0\.1, wanted to start/,
    )
    await until(first, () => first.identity?.warning?.includes('Another machine') === true)
    await first.bye('poweroff')
    await untilUp(second)
    assert.equal(second.identity?.clientId, clientId)
  })

  it('takes a machine that was reset for the same, since the former boot is silent', async () => {
    await using stream = await startStream()
    const former = await TestAgent.connect(stream.port, { silent: true })
    former.say(hello({ bootId: BOOT_ID }))
    const { clientId } = await former.nextMessage('identity')
    const next = await TestAgent.connect(stream.port)
    next.say(hello({ bootId: OTHER_BOOT_ID }))
    assert.equal((await next.nextMessage('identity')).clientId, clientId)
    assert.equal((await former.closed).code, 4000)
    next.socket.terminate()
  })

  it('asks about a changed network card, and goes on by itself once that is confirmed', async () => {
    const core = createTestCore()
    const key = await createServerKey()
    await using stream = await startStream({ core, key })
    const target = { port: stream.port, pin: key.pin }
    const uuid = 'aaaaaaaa-1111-4222-8333-444444444444'
    const before = createSession(target, { facts: { macs: ['52:54:00:00:00:01'], uuid } })
    before.start()
    await untilUp(before)
    const { clientId = '' } = before.identity ?? {}
    const hostname = 'h'.repeat(63)
    await core.registry.approve(clientId)
    await core.registry.rename(clientId, hostname)
    await before.bye('poweroff')
    await using changed = createSession(target, {
      facts: { macs: ['52:54:00:00:00:09'], uuid },
      bootId: OTHER_BOOT_ID,
    })
    changed.start()
    await until(changed, () => changed.identity !== undefined)
    const note = changed.identity?.note ?? ''
    assert.match(note, new RegExp(`may be ${hostname} with another network card.* ${clientId} `))
    await core.registry.confirm(clientId, changed.identity?.clientId ?? '')
    await until(changed, () => changed.identity?.state === 'approved')
    assert.deepEqual([changed.identity?.clientId, changed.identity?.hostname], [clientId, hostname])
  })

  it('never turns a boot away on which a root runs', async () => {
    const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'lab' } })
    await core.addVDisk('lab')
    await using stream = await startStream({ core })
    const running = await TestAgent.connect(stream.port)
    running.say(hello({ bootId: BOOT_ID }))
    await running.nextMessage('identity')
    running.say({ kind: 'open', vdisk: 'lab', firstPushBytes: 0 })
    const { versionId } = await running.nextMessage('opened')
    running.socket.terminate()
    const other = await TestAgent.connect(stream.port)
    other.say(hello({ bootId: OTHER_BOOT_ID }))
    await other.nextMessage('identity')
    const back = await TestAgent.connect(stream.port)
    back.say(hello({ bootId: BOOT_ID }))
    await back.nextMessage('identity')
    back.say({ kind: 'open', vdisk: 'lab', versionId, firstPushBytes: 0 })
    assert.equal((await back.nextMessage('opened')).versionId, versionId)
    back.socket.terminate()
  })
})
