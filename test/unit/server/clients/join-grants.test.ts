/** Machines that are admitted beforehand, by a token or from a subnet. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ProvenKey } from '#server/clients/client-registry.ts'
import { createTestCore, START_MS } from '#test/support/server-core.ts'

const KEY: ProvenKey = { fingerprint: 'a'.repeat(43), place: 'cache' }
const HOUR_MS = 3_600_000
const HOUR = { untilMs: START_MS + HOUR_MS, vdisks: ['lab'] }

const factsOf = (number: number) => ({
  macs: [`52:54:00:00:00:${number.toString(16).padStart(2, '0')}`],
})

describe('a join token', () => {
  it('admits a machine with its key and the vDisks, as often as it may be used', async () => {
    const { registry, grants } = createTestCore()
    const { token } = await grants.createToken({ ...HOUR, uses: 1 })
    const first = await registry.admit(factsOf(1), '192.0.2.1', KEY, token)
    assert.deepEqual(
      [first.client.state, first.client.assignments, first.isAuthenticated],
      ['approved', ['lab'], true],
    )
    assert.equal(await registry.isConfirmed(first.client.id), true)
    const again = await registry.admit(factsOf(1), '192.0.2.1', KEY, token)
    assert.deepEqual([again.client.id, again.joinRefusal], [first.client.id, undefined])
    const second = await registry.admit(factsOf(2), '192.0.2.2', undefined, token)
    assert.equal(second.client.state, 'pending')
    assert.match(second.joinRefusal ?? '', /used as often as it may be/)
    assert.deepEqual(
      (await grants.list()).map(({ used }) => used),
      [1],
    )
  })

  it('admits no more machines than it may when many come at once', async () => {
    const { registry, grants } = createTestCore()
    const { token } = await grants.createToken({ ...HOUR, uses: 3 })
    const admitted = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        registry.admit(factsOf(n), '192.0.2.1', undefined, token),
      ),
    )
    const approved = admitted.filter(({ client }) => client.state === 'approved')
    assert.equal(approved.length, 3)
  })

  it('admits a machine that waits already', async () => {
    const { registry, grants } = createTestCore()
    const { client } = await registry.admit(factsOf(1), '192.0.2.1', KEY)
    assert.equal(client.state, 'pending')
    const { token } = await grants.createToken(HOUR)
    const admitted = await registry.admit(factsOf(1), '192.0.2.1', KEY, token)
    assert.deepEqual(
      [admitted.client.id, admitted.client.state, admitted.isAuthenticated],
      [client.id, 'approved', true],
    )
    assert.equal(admitted.client.offeredKey, undefined)
  })

  it('is over in time, and says so', async () => {
    const { registry, grants, clock } = createTestCore()
    const { token } = await grants.createToken(HOUR)
    clock.nowMs += HOUR_MS
    const late = await registry.admit(factsOf(1), '192.0.2.1', KEY, token)
    assert.match(late.joinRefusal ?? '', /has expired/)
    const guessed = await registry.admit(factsOf(2), '192.0.2.1', KEY, `bwj_${'x'.repeat(43)}`)
    assert.match(guessed.joinRefusal ?? '', /not known here/)
  })

  it('takes nothing from a client that was refused, and makes nobody another client', async () => {
    const { registry, grants } = createTestCore()
    const { client } = await registry.admit(factsOf(1), '192.0.2.1', KEY)
    await registry.approve(client.id, KEY.fingerprint)
    const { token } = await grants.createToken(HOUR)
    // By the MAC of a client that has a key.
    const impostor = await registry.admit(factsOf(1), '192.0.2.9', undefined, token)
    assert.deepEqual([impostor.client.claimsToBe, impostor.client.state], [client.id, 'pending'])
    await registry.refuse(client.id)
    const refused = await registry.admit(factsOf(1), '192.0.2.1', KEY, token)
    assert.equal(refused.client.state, 'refused')
  })

  it('is kept as a hash', async () => {
    const { grants, store } = createTestCore()
    const { token } = await grants.createToken(HOUR)
    assert.equal(JSON.stringify(await store.range('')).includes(token), false)
    assert.equal(JSON.stringify(await store.range('')).includes(token.slice(4)), false)
  })
})

describe('a subnet', () => {
  it('admits whoever comes from it, and nobody else', async () => {
    const { registry, grants } = createTestCore()
    await grants.openSubnet('10.0.5.0/24', { ...HOUR, uses: 2 })
    const stateFrom = async (number: number, address: string) =>
      (await registry.admit(factsOf(number), address, undefined)).client.state
    assert.equal(await stateFrom(1, '10.0.5.200'), 'approved')
    assert.equal(await stateFrom(2, '10.0.6.1'), 'pending')
    assert.equal(await stateFrom(3, 'fe80::1'), 'pending')
    assert.equal(await stateFrom(4, '10.0.5.1'), 'approved')
    assert.equal(await stateFrom(5, '10.0.5.2'), 'pending')
  })

  it('is refused when it is none, or for ever', async () => {
    const { grants } = createTestCore()
    for (const subnet of ['', '10.0.5', '10.0.5.0/33', '10.0.5.0/-1', '10.0.5.0/x', '::/129']) {
      await assert.rejects(grants.openSubnet(subnet, HOUR), { code: 'INVALID_ARGUMENT' }, subnet)
    }
    for (const untilMs of [START_MS, START_MS + 400 * 24 * HOUR_MS]) {
      await assert.rejects(grants.openSubnet('::/0', { ...HOUR, untilMs }), {
        code: 'INVALID_ARGUMENT',
      })
    }
  })

  it('is removed by the beginning of its id', async () => {
    const { grants } = createTestCore()
    const { id } = await grants.openSubnet('10.0.5.0/24', HOUR)
    await assert.rejects(grants.remove('zz'), { code: 'NOT_FOUND' })
    await grants.remove(id.slice(0, 8))
    assert.deepEqual(await grants.list(), [])
  })
})
