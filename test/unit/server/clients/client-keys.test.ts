/** Who a machine is when it has a key, or claims to be one that has. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ProvenKey } from '#server/clients/client-registry.ts'
import type { UnknownPolicy } from '#server/clients/unknown-policy.ts'
import { createTestCore } from '#test/support/server-core.ts'

const ADDRESS = '192.0.2.1'
const FACTS = { macs: ['52:54:00:00:00:01'], uuid: '11111111-0000-4000-8000-000000000001' }
const OTHER_FACTS = { macs: ['52:54:00:00:00:02'] }
const KEY: ProvenKey = { fingerprint: 'a'.repeat(43), place: 'cache' }
const OTHER_KEY: ProvenKey = { fingerprint: 'b'.repeat(43), place: 'tpm' }

function registryOf(unknownClients?: UnknownPolicy) {
  const { registry } = createTestCore(unknownClients && { unknownClients })
  const see = async (facts: typeof OTHER_FACTS, key?: ProvenKey) =>
    await registry.admit(facts, ADDRESS, key)
  const vouched = async () => {
    const { client } = await see(FACTS, KEY)
    return await registry.approve(client.id, KEY.fingerprint)
  }
  return { registry, see, vouched }
}

describe('a machine with a key', () => {
  it('is its client once somebody has vouched for the key, whatever it claims', async () => {
    const { see, vouched } = registryOf()
    const { client, isAuthenticated } = await see(FACTS, KEY)
    assert.deepEqual([client.state, isAuthenticated], ['pending', false])
    const { id } = await vouched()
    for (const facts of [FACTS, OTHER_FACTS]) {
      const again = await see(facts, KEY)
      assert.deepEqual([again.client.id, again.isAuthenticated], [id, true])
    }
  })

  it('is not its client by a MAC and UUID that somebody guessed', async () => {
    const { registry, see, vouched } = registryOf()
    const { id } = await vouched()
    for (const key of [undefined, OTHER_KEY]) {
      const { client, isAuthenticated } = await see(FACTS, key)
      assert.notEqual(client.id, id)
      assert.deepEqual(
        [client.claimsToBe, client.state, client.assignments, isAuthenticated],
        [id, 'pending', [], false],
      )
    }
    // One record for all of them, however many come.
    assert.equal((await registry.list()).length, 2)
    assert.equal((await see(FACTS, KEY)).client.id, id)
  })

  it('is not vouched for by a key that another machine has shown meanwhile', async () => {
    const { registry, see } = registryOf()
    const { client } = await see(FACTS, KEY)
    await see(FACTS, OTHER_KEY)
    await assert.rejects(registry.approve(client.id, KEY.fingerprint), { code: 'INVALID_ARGUMENT' })
    assert.equal((await registry.get(client.id))?.key, undefined)
  })

  it('was approved without one: it is not authenticated before somebody vouches for it', async () => {
    const { registry, see } = registryOf()
    const { client } = await see(FACTS)
    await registry.approve(client.id)
    const later = await see(FACTS, KEY)
    assert.deepEqual(
      [later.client.id, later.client.state, later.isAuthenticated],
      [client.id, 'approved', false],
    )
    await registry.approve(client.id, KEY.fingerprint)
    assert.equal((await see(FACTS, KEY)).isAuthenticated, true)
  })

  it('is vouched for by a policy that admits whoever comes, when it is new and claims to be nobody', async () => {
    const { see } = registryOf({ kind: 'vdisk', vdisk: 'kiosk' })
    const first = await see(FACTS, KEY)
    assert.equal(first.isAuthenticated, true)
    const impostor = await see(FACTS, OTHER_KEY)
    assert.notEqual(impostor.client.id, first.client.id)
    assert.deepEqual([impostor.client.state, impostor.isAuthenticated], ['approved', false])
    assert.equal((await see(FACTS, KEY)).client.id, first.client.id)
  })

  it('is nothing any more when its key was revoked, until it has another one', async () => {
    const { registry, see, vouched } = registryOf()
    const { id } = await vouched()
    const revoked = await registry.revoke(id, { cut: true })
    assert.deepEqual([revoked.state, revoked.key], ['refused', undefined])
    const again = await see(FACTS, KEY)
    assert.deepEqual(
      [again.client.id, again.isAuthenticated, again.revoked?.cut],
      [id, false, true],
    )
    await see(FACTS, OTHER_KEY)
    await registry.approve(id, OTHER_KEY.fingerprint)
    assert.equal((await see(FACTS, OTHER_KEY)).isAuthenticated, true)
    assert.notEqual((await see(FACTS, KEY)).revoked, undefined)
  })

  it('has its key replaced by that of the machine that claims to be it', async () => {
    const { registry, see, vouched } = registryOf()
    const { id } = await vouched()
    const standIn = (await see(FACTS, OTHER_KEY)).client
    await registry.replaceKey(id, standIn.id)
    const now = await see(FACTS, OTHER_KEY)
    assert.deepEqual([now.client.id, now.isAuthenticated], [id, true])
    assert.notEqual((await see(FACTS, KEY)).revoked, undefined)
    assert.equal((await registry.list()).length, 1)
    const stranger = (await see(OTHER_FACTS)).client
    await assert.rejects(registry.replaceKey(id, stranger.id), { code: 'INVALID_ARGUMENT' })
  })

  it('needs no MAC or UUID of its own', async () => {
    const { see } = registryOf()
    const nothing = { macs: [] as string[] }
    const { client } = await see(nothing, KEY)
    assert.equal((await see(nothing, KEY)).client.id, client.id)
    await assert.rejects(see(nothing), { code: 'MESSAGE_INVALID' })
  })

  it('does not become the client that another one was removed as', async () => {
    const { registry, see, vouched } = registryOf()
    const { id } = await vouched()
    const standIn = (await see(FACTS, OTHER_KEY)).client
    await registry.remove(id)
    assert.equal((await see(FACTS, OTHER_KEY)).client.id, standIn.id)
    assert.notEqual((await see(FACTS, KEY)).client.id, id)
  })
})
