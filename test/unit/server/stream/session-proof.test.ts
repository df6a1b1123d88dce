/** A machine proves to a session that it has its key, or does not. */
import assert from 'node:assert/strict'
import { generateKeyPairSync, sign } from 'node:crypto'
import { describe, it } from 'node:test'
import { silentLog } from '#server/log.ts'
import { Session } from '#server/stream/session.ts'
import { keyFingerprint, proofText } from '#shared/identity/device-key.ts'
import { encodeMessage } from '#shared/wire/codec.ts'
import { BOOT_ID, hello } from '#test/support/agent-messages.ts'
import { FAKE_BINDING, FakeSessionSocket } from '#test/support/fake-session-socket.ts'
import { createTestCore, type TestCore } from '#test/support/server-core.ts'

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const SPKI = publicKey.export({ type: 'spki', format: 'der' })
const KEY = { spki: SPKI.toString('base64'), place: 'cache' as const }

class Machine {
  readonly socket = new FakeSessionSocket()
  readonly session: Session

  constructor(core: TestCore) {
    this.session = new Session(this.socket, '192.0.2.1', {
      ...core,
      settings: { serverName: 'server', menuSeconds: 10, enrolSecret: Buffer.alloc(32) },
      now: () => core.clock.nowMs,
      log: silentLog(),
    })
  }

  async challenged(bootId = BOOT_ID) {
    const frame = encodeMessage(hello({ key: KEY, bootId }))
    this.session.receive(frame)
    const { nonce } = await this.socket.nextMessage('challenge')
    return { binding: FAKE_BINDING, hello: frame, nonce: Buffer.from(nonce, 'base64') }
  }

  prove(text: Uint8Array, key = privateKey) {
    const signature = sign(null, text, key).toString('base64')
    this.session.receive(encodeMessage({ kind: 'proof', signature }))
  }

  async closed() {
    const error = await this.socket.nextMessage('error')
    return error.code
  }
}

describe('a session of a machine with a key', () => {
  it('knows it by its key, and shows a code until somebody vouches for it', async () => {
    const core = createTestCore()
    const machine = new Machine(core)
    machine.prove(proofText(await machine.challenged()))
    const identity = await machine.socket.nextMessage('identity')
    assert.equal(identity.state, 'pending')
    assert.match(identity.enrolCode ?? '', /^[A-Z]{4}-[A-Z]{4}$/)
    assert.equal(core.sessions.byEnrolCode(identity.enrolCode ?? ''), machine.session)
    await core.registry.approve(identity.clientId, keyFingerprint(SPKI))
    const again = new Machine(core)
    again.prove(proofText(await again.challenged()))
    const known = await again.socket.nextMessage('identity')
    assert.deepEqual(
      [known.clientId, known.isAuthenticated, known.enrolCode],
      [identity.clientId, true, undefined],
    )
  })

  it('gives a vDisk that is not for anyone to nobody else', async () => {
    const core = createTestCore()
    await core.addVDisk('lab')
    await core.catalog.setAccess('lab', 'authenticated')
    const machine = new Machine(core)
    machine.prove(proofText(await machine.challenged()))
    const { clientId } = await machine.socket.nextMessage('identity')
    await core.registry.assign(clientId, ['lab'], { only: true })
    await core.registry.approve(clientId)
    const withheld = await machine.socket.nextMessage('identity')
    assert.deepEqual([withheld.offers.length, withheld.withheld], [0, 1])
    const open = encodeMessage({ kind: 'open', vdisk: 'lab', firstPushBytes: 0 })
    machine.session.receive(open)
    assert.equal((await machine.socket.nextMessage('error')).code, 'NOT_AUTHENTICATED')
    await core.registry.approve(clientId, keyFingerprint(SPKI))
    const again = new Machine(core)
    again.prove(proofText(await again.challenged()))
    assert.equal((await again.socket.nextMessage('identity')).offers.length, 1)
    again.session.receive(open)
    assert.equal((await again.socket.nextMessage('opened')).vdisk, 'lab')
  })

  it('takes no proof for another connection, another hello, or by another key', async () => {
    const core = createTestCore()
    const first = new Machine(core)
    const parts = await first.challenged()
    const stranger = generateKeyPairSync('ed25519').privateKey
    const wrong: ((fresh: typeof parts) => [Uint8Array, typeof privateKey?])[] = [
      () => [proofText(parts)], // replayed
      (fresh) => [proofText({ ...fresh, binding: Buffer.alloc(32, 1) })],
      (fresh) => [proofText({ ...fresh, hello: parts.hello.subarray(1) })],
      (fresh) => [proofText(fresh), stranger],
    ]
    for (const text of wrong) {
      const machine = new Machine(core)
      machine.prove(...text(await machine.challenged()))
      assert.equal(await machine.closed(), 'PROOF_INVALID')
    }
    assert.deepEqual(await core.registry.list(), [])
  })

  it('closes when a proof comes that nobody asked for, or a key that is none', async () => {
    const core = createTestCore()
    const early = new Machine(core)
    early.prove(Buffer.from('anything'))
    assert.equal(await early.closed(), 'MESSAGE_INVALID')
    const twice = new Machine(core)
    const text = proofText(await twice.challenged())
    twice.prove(text)
    twice.prove(text)
    await twice.socket.nextMessage('identity')
    assert.equal(await twice.closed(), 'MESSAGE_INVALID')
    const broken = new Machine(core)
    const spki = Buffer.alloc(44).toString('base64')
    broken.session.receive(encodeMessage(hello({ key: { spki, place: 'tpm' } })))
    assert.equal(await broken.closed(), 'MESSAGE_INVALID')
  })

  it('closes when its key was revoked, but for a root that may go on', async () => {
    const core = createTestCore()
    await core.addVDisk('lab')
    const machine = new Machine(core)
    machine.prove(proofText(await machine.challenged()))
    const { clientId } = await machine.socket.nextMessage('identity')
    await core.registry.assign(clientId, ['lab'], { only: true })
    await core.registry.approve(clientId, keyFingerprint(SPKI))
    await machine.socket.nextMessage('identity')
    machine.session.receive(encodeMessage({ kind: 'open', vdisk: 'lab', firstPushBytes: 0 }))
    const { versionId } = await machine.socket.nextMessage('opened')
    await core.registry.revoke(clientId, { cut: false })
    const reconnected = new Machine(core)
    reconnected.prove(proofText(await reconnected.challenged()))
    await reconnected.socket.nextMessage('identity')
    reconnected.session.receive(
      encodeMessage({ kind: 'open', vdisk: 'lab', versionId, firstPushBytes: 0 }),
    )
    await reconnected.socket.nextMessage('opened')
    const booting = new Machine(core)
    booting.prove(proofText(await booting.challenged('f'.repeat(32))))
    assert.equal(await booting.closed(), 'KEY_REVOKED')
  })
})
