/** The saved corpus of wrong frames, against the real server; what it cost others is looked at after each. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { connect } from 'node:tls'
import { AGENT_PATH } from '#shared/wire/limits.ts'
import { hello } from '#test/support/agent-messages.ts'
import { readHostileFrames } from '#test/support/hostile-frames.ts'
import { type StreamFixture, startStream, TestAgent } from '#test/support/stream-fixture.ts'

const TIMEOUT = { timeout: 60_000 }

/** Somebody who was connected all the time is answered still. */
async function assertUnharmed({ port }: StreamFixture): Promise<void> {
  const agent = await TestAgent.connect(port)
  agent.say(hello())
  assert.equal((await agent.nextMessage('identity')).state, 'pending')
  agent.socket.terminate()
  await agent.closed
}

describe('a frame that is wrong ends its own connection:', TIMEOUT, () => {
  it('control frames, each with an error and a close code', async () => {
    await using fixture = await startStream()
    for (const { name, bytes } of readHostileFrames('control-frames')) {
      const agent = await TestAgent.connect(fixture.port)
      agent.socket.send(bytes)
      const { code } = await agent.nextMessage('error')
      assert.ok(['MESSAGE_INVALID', 'PROTOCOL_VERSION'].includes(code), `${name}: ${code}`)
      assert.equal((await agent.closed).code, 1002, name)
    }
    await assertUnharmed(fixture)
    assert.equal((await fixture.core.registry.list()).length, 1, 'none of them is a client')
  })

  it('frames of websockets, by the end of the connection', async () => {
    await using fixture = await startStream()
    for (const { name, bytes } of readHostileFrames('websocket-frames')) {
      const socket = connect({ port: fixture.port, host: '127.0.0.1', rejectUnauthorized: false })
      socket.on('error', () => undefined) // the end is what is waited for
      await once(socket, 'secureConnect')
      socket.write(
        `GET ${AGENT_PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
      )
      await once(socket, 'data')
      socket.resume()
      socket.write(bytes)
      await once(socket, 'close', { signal: AbortSignal.timeout(10_000) }).catch(
        (error: unknown) => {
          throw new Error(`${name} did not end the connection`, { cause: error })
        },
      )
    }
    await assertUnharmed(fixture)
  })
})
