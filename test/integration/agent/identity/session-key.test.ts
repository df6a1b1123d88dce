/** The agent proves who it is to the product's own server, over real TLS and again after each loss. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { newSeed, StoredKey } from '#agent/identity/device-key.ts'
import { TpmKey } from '#agent/identity/tpm-key.ts'
import { keyFingerprint } from '#shared/identity/device-key.ts'
import { CuttableNetwork } from '#test/support/agent-network.ts'
import { createServerKey } from '#test/support/agent-scripted-server.ts'
import { createSession, until, untilDown, untilUp } from '#test/support/agent-session.ts'
import { createTestCore } from '#test/support/server-core.ts'
import { startSoftwareTpm } from '#test/support/software-tpm.ts'
import { startStream } from '#test/support/stream-fixture.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMEOUT = { timeout: 60_000 }

describe('a session with a key', TIMEOUT, () => {
  it('is authenticated after somebody compared the code, on this and on the next connections', async () => {
    const core = createTestCore()
    const key = await createServerKey()
    await using stream = await startStream({ core, key })
    await using network = await CuttableNetwork.create(() => stream.port)
    const stored = new StoredKey(newSeed(), 'cache')
    await using session = createSession(
      { port: network.port, pin: key.pin },
      { key: async () => stored },
    )
    session.start()
    await until(session, () => session.identity !== undefined)
    assert.match(session.identity?.enrolCode ?? '', /^[A-Z]{4}-[A-Z]{4}$/)
    const { clientId = '' } = session.identity ?? {}
    await core.registry.approve(clientId, keyFingerprint(stored.spki))
    for (let losses = 0; losses < 2; losses += 1) {
      network.cut()
      await untilDown(session)
      await untilUp(session)
      assert.deepEqual(
        [session.identity?.clientId, session.identity?.isAuthenticated],
        [clientId, true],
      )
    }
  })

  it('goes on without one when its place for it does not work', async () => {
    const core = createTestCore()
    const key = await createServerKey()
    await using stream = await startStream({ core, key })
    await using session = createSession(
      { port: stream.port, pin: key.pin },
      { key: async () => undefined },
    )
    session.start()
    await untilUp(session)
    assert.equal(session.identity?.isAuthenticated, undefined)
  })

  it('proves a key that its TPM keeps', async () => {
    await using folder = await createTemporaryFolder()
    await using tpm = await startSoftwareTpm(folder.path)
    const tpmKey = await TpmKey.of(tpm.tpm)
    const core = createTestCore({ unknownClients: { kind: 'vdisk', vdisk: 'lab' } })
    const key = await createServerKey()
    await using stream = await startStream({ core, key })
    await using session = createSession(
      { port: stream.port, pin: key.pin },
      { key: async () => tpmKey },
    )
    session.start()
    await untilUp(session)
    assert.equal(session.identity?.isAuthenticated, true)
    const [client] = await core.registry.list()
    assert.deepEqual(
      [client?.key?.place, client?.key?.fingerprint],
      ['tpm', keyFingerprint(tpmKey.spki)],
    )
  })
})
