/** Which servers a machine believes: those it was enrolled at, also when they change their key, and no other. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { ServerTrust } from '#agent/session/server-trust.ts'
import { createAgentServer } from '#server/http-servers.ts'
import { ensureServerKey, prepareRollOver } from '#server/tls/server-key.ts'
import { createSession, until, untilUp } from '#test/support/agent-session.ts'
import { createTestCore } from '#test/support/server-core.ts'
import { startServerProcess } from '#test/support/server-process.ts'
import { startStream } from '#test/support/stream-fixture.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMEOUT = { timeout: 60_000 }

const trusting = (scriptPin: string, known: readonly string[]) => ({
  pin: scriptPin,
  trust: new ServerTrust(scriptPin, async () => known),
})

describe('a machine that was enrolled', TIMEOUT, () => {
  it('trusts its server with another key, after any number of changes, and none that it has not signed', async () => {
    await using folder = await createTemporaryFolder()
    const state = join(folder.path, 'state')
    const pins: string[] = []
    for (let changes = 0; changes < 3; changes += 1) {
      await using server = await startServerProcess(state)
      pins.push(server.pin)
      // Whoever booted now has the newest in its script; a machine that was off for long knows the first only.
      for (const known of pins) {
        const { trust } = trusting(server.pin, [known])
        const target = { port: server.tlsPort, pin: server.pin }
        await using session = createSession(target, { trust })
        session.start()
        await untilUp(session)
        assert.ok(trust.known.has(server.pin))
      }
      const { nextPin } = await server.json<{ nextPin: string }>('key', 'roll-over')
      assert.equal((await server.json<{ nextPin: string }>('key', 'roll-over')).nextPin, nextPin)
      await server.stop('SIGTERM')
    }
    assert.equal(new Set(pins).size, 3)
  })

  it('tells a server that it does not know nothing, and says which it knows', async () => {
    await using folder = await createTemporaryFolder()
    const rogue = await ensureServerKey(folder.path)
    const asked: (string | undefined)[] = []
    const server = createAgentServer(rogue)
    server.on('request', (request, response) => {
      asked.push(request.url)
      response.end('[]')
    })
    server.on('upgrade', (request, socket) => {
      asked.push(request.url)
      socket.destroy()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    assert.ok(typeof address === 'object' && address !== null)
    const known = 'k'.repeat(43)
    // Its boot script comes from the rogue, too.
    const target = { port: address.port, pin: rogue.pin }
    await using session = createSession(target, trusting(rogue.pin, [known]))
    session.start()
    await until(session, () => session.connection.error !== undefined)
    assert.equal(session.connection.error?.code, 'KEY_MISMATCH')
    assert.match(
      session.connection.error?.message ?? '',
      new RegExp(`belongs to another server.*${known}`),
    )
    assert.deepEqual(new Set(asked), new Set(['/key-chain']))
    server.close()
    server.closeAllConnections()
  })

  it('takes no key for one that follows which another server has signed', async () => {
    await using folder = await createTemporaryFolder()
    const own = await ensureServerKey(join(folder.path))
    await using stranger = await createTemporaryFolder()
    const other = await ensureServerKey(stranger.path)
    await prepareRollOver(stranger.path, other)
    const next = await ensureServerKey(stranger.path)
    assert.notEqual(next.pin, other.pin)
    const server = createAgentServer(next)
    server.on('request', (_, response) => response.end(JSON.stringify(next.chain)))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    assert.ok(typeof address === 'object' && address !== null)
    const target = { port: address.port, pin: next.pin }
    await using session = createSession(target, trusting(next.pin, [own.pin]))
    session.start()
    await until(session, () => session.connection.error !== undefined)
    assert.equal(session.connection.error?.code, 'KEY_MISMATCH')
    server.close()
    server.closeAllConnections()
  })
})

describe('a machine that was enrolled nowhere', TIMEOUT, () => {
  it('trusts the pin of its boot script', async () => {
    await using folder = await createTemporaryFolder()
    const key = await ensureServerKey(folder.path)
    await using stream = await startStream({ core: createTestCore(), key })
    await using session = createSession({ port: stream.port, pin: key.pin }, trusting(key.pin, []))
    session.start()
    await untilUp(session)
  })
})
