import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ClientRegistry } from '#server/clients/client-registry.ts'
import type { UnknownPolicy } from '#server/clients/unknown-policy.ts'
import { silentLog } from '#server/log.ts'
import { CLIENT_MAC_KEYS } from '#server/state/records.ts'
import { MemoryStateStore } from '#test/support/memory-state-store.ts'

const ADDRESS = '192.0.2.1'
const APPROVE: UnknownPolicy = { kind: 'approve' }

function mac(n: number): string {
  return `52:54:00:00:00:${n.toString(16).padStart(2, '0')}`
}

function createRegistry(
  options: {
    readonly store?: MemoryStateStore
    readonly policy?: UnknownPolicy
    readonly hostnamePattern?: string
    readonly running?: ReadonlySet<string>
    readonly unconfirmedMax?: number
  } = {},
) {
  const clock = { nowMs: 1_000_000 }
  const store = options.store ?? new MemoryStateStore()
  const { unconfirmedMax } = options
  const registry = new ClientRegistry({
    store,
    policy: options.policy ?? APPROVE,
    hostnamePattern: options.hostnamePattern ?? 'client-{n}',
    isRunning: (id) => options.running?.has(id) ?? false,
    now: () => clock.nowMs,
    log: silentLog(),
    ...(unconfirmedMax !== undefined && { unconfirmedMax }),
  })
  const changed: string[] = []
  registry.changes.subscribe((id) => changed.push(id))
  return { registry, store, clock, changed }
}

describe('identify()', () => {
  it('registers an unknown machine as pending with a name and a machine-id of its own', async () => {
    const { registry } = createRegistry()
    const first = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    const second = await registry.identify({ macs: [mac(2)] }, ADDRESS)
    assert.deepEqual([first.hostname, second.hostname], ['client-1', 'client-2'])
    assert.deepEqual([first.state, first.assignments], ['pending', []])
    assert.match(first.machineId, /^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/)
    assert.match(first.id, /^[0-9a-f]{16}$/)
    assert.notEqual(first.machineId, second.machineId)
  })

  it('gives the same machine the same identity for ever, also after a restart', async () => {
    const { registry, store } = createRegistry()
    const before = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    const after = await createRegistry({ store }).registry.identify({ macs: [mac(1)] }, ADDRESS)
    assert.deepEqual(after, before)
  })

  it('knows a machine by a second MAC or its UUID once it reported them', async () => {
    const { registry } = createRegistry()
    const uuid = 'aaaaaaaa-1111-4222-8333-444444444444'
    const { id } = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    await registry.identify({ macs: [mac(1), mac(2)], uuid }, ADDRESS)
    assert.equal((await registry.identify({ macs: [mac(2)] }, ADDRESS)).id, id)
    assert.equal((await registry.identify({ macs: [], uuid }, ADDRESS)).id, id)
  })

  it('asks about a changed network card, and knows it once somebody has confirmed it', async () => {
    const { registry } = createRegistry()
    const uuid = 'aaaaaaaa-1111-4222-8333-444444444444'
    const { id, hostname } = await registry.identify({ macs: [mac(1)], uuid }, ADDRESS)
    await registry.approve(id)
    const changed = { macs: [mac(3)], uuid }
    assert.equal(await registry.isUnsure(changed), true)
    const standIn = await registry.identify(changed, ADDRESS)
    assert.deepEqual([standIn.claimsToBe, standIn.state], [id, 'pending'])
    assert.deepEqual(standIn.knownBy, ['other MAC (0)', 'same UUID (+4)'])
    assert.equal((await registry.identify(changed, ADDRESS)).id, standIn.id, 'one, however often')
    await registry.confirm(id, standIn.id)
    const known = await registry.identify(changed, ADDRESS)
    assert.deepEqual([known.id, known.hostname, known.state], [id, hostname, 'approved'])
    assert.equal(await registry.get(standIn.id), undefined)
    const former = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    assert.notEqual(former.id, id, 'the former card may be in another machine by now')
  })

  it('does not give a client that runs to another machine', async () => {
    const running = new Set<string>()
    const { registry } = createRegistry({ running })
    const uuid = 'aaaaaaaa-1111-4222-8333-444444444444'
    const { id } = await registry.identify({ macs: [mac(1)], uuid }, ADDRESS)
    const standIn = await registry.identify({ macs: [mac(3)], uuid }, ADDRESS)
    running.add(id)
    await assert.rejects(registry.confirm(id, standIn.id), { code: 'IN_USE' })
    running.delete(id)
    await registry.confirm(id, standIn.id)
  })

  it('finds again whom somebody approved, also one with no MAC of its own', async () => {
    const { registry } = createRegistry()
    const facts = (systemSerial: string) => ({ macs: [mac(1)], systemSerial })
    const { id } = await registry.identify(facts('S1'), ADDRESS)
    const other = await registry.identify(facts('S2'), ADDRESS)
    assert.equal(other.claimsToBe, id)
    await registry.approve(other.id)
    const again = await registry.identify(facts('S2'), ADDRESS)
    assert.deepEqual([again.id, again.state], [other.id, 'approved'])
  })

  it('knows two when somebody has approved the second as a client of its own', async () => {
    const { registry } = createRegistry()
    const uuid = 'aaaaaaaa-1111-4222-8333-444444444444'
    const { id } = await registry.identify({ macs: [mac(1)], uuid }, ADDRESS)
    const other = await registry.identify({ macs: [mac(3)], uuid }, ADDRESS)
    const approved = await registry.approve(other.id)
    assert.equal(approved.claimsToBe, undefined)
    assert.equal((await registry.identify({ macs: [mac(3)], uuid }, ADDRESS)).id, other.id)
    assert.equal((await registry.identify({ macs: [mac(1)], uuid }, ADDRESS)).id, id)
    await assert.rejects(registry.confirm(id, other.id), { code: 'INVALID_ARGUMENT' })
    await assert.rejects(registry.confirm(id, id), { code: 'INVALID_ARGUMENT' })
  })

  it('takes machines with the same placeholder UUID for different ones', async () => {
    const { registry } = createRegistry()
    const uuid = '03000200-0400-0500-0006-000700080009'
    const first = await registry.identify({ macs: [mac(1)], uuid }, ADDRESS)
    const second = await registry.identify({ macs: [mac(2)], uuid }, ADDRESS)
    assert.notEqual(first.id, second.id)
  })

  it('takes a clone with the UUID of a running client for a new machine', async () => {
    const running = new Set<string>()
    const { registry } = createRegistry({ running })
    const uuid = 'aaaaaaaa-1111-4222-8333-444444444444'
    const original = await registry.identify({ macs: [mac(1)], uuid }, ADDRESS)
    running.add(original.id)
    const clone = await registry.identify({ macs: [mac(2)], uuid }, ADDRESS)
    assert.notEqual(clone.id, original.id)
    assert.equal((await registry.identify({ macs: [mac(2)], uuid }, ADDRESS)).id, clone.id)
  })

  it('registers one client when the same new machine comes many times at once', async () => {
    const { registry } = createRegistry()
    const clients = await Promise.all(
      Array.from({ length: 20 }, () => registry.identify({ macs: [mac(1)] }, ADDRESS)),
    )
    assert.equal(new Set(clients.map(({ id }) => id)).size, 1)
    assert.equal((await registry.list()).length, 1)
  })

  it('registers one client when the same new machine comes to two servers at once', async () => {
    const { registry, store } = createRegistry()
    const other = createRegistry({ store }).registry
    const facts = { macs: [mac(1)] }
    const clients = await Promise.all([
      registry.identify(facts, ADDRESS),
      other.identify(facts, ADDRESS),
      registry.identify({ macs: [mac(2)] }, ADDRESS),
      other.identify({ macs: [mac(3)] }, ADDRESS),
    ])
    assert.equal(clients[0].id, clients[1].id)
    assert.equal(new Set(clients.map(({ hostname }) => hostname)).size, 3)
  })

  it('gives many new machines that come at once different names', async () => {
    const { registry } = createRegistry()
    const clients = await Promise.all(
      Array.from({ length: 200 }, (_, n) => registry.identify({ macs: [mac(n)] }, ADDRESS)),
    )
    assert.equal(new Set(clients.map(({ hostname }) => hostname)).size, 200)
  })

  it('refuses a machine that nothing tells from others', async () => {
    const { registry } = createRegistry()
    const facts = { macs: [], uuid: '00000000-0000-0000-0000-000000000000' }
    await assert.rejects(registry.identify(facts, ADDRESS), { code: 'MESSAGE_INVALID' })
  })

  it('registers no more than the bound of undecided clients, until some are decided', async () => {
    const { registry } = createRegistry({ unconfirmedMax: 2 })
    const { id } = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    await registry.identify({ macs: [mac(2)] }, ADDRESS)
    await assert.rejects(registry.identify({ macs: [mac(3)] }, ADDRESS), { code: 'LIMIT_EXCEEDED' })
    await registry.approve(id)
    assert.equal((await registry.identify({ macs: [mac(3)] }, ADDRESS)).hostname, 'client-3')
  })

  it('applies a policy changed since to those who still wait, and takes nothing away', async () => {
    const { registry, store } = createRegistry()
    const waiting = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    const refused = await registry.identify({ macs: [mac(2)] }, ADDRESS)
    await registry.refuse(refused.id)
    const open = createRegistry({ store, policy: { kind: 'vdisk', vdisk: 'kiosk' } }).registry
    const admitted = await open.identify({ macs: [mac(1)] }, ADDRESS)
    assert.deepEqual([admitted.state, admitted.assignments], ['approved', ['kiosk']])
    assert.equal((await open.identify({ macs: [mac(2)] }, ADDRESS)).state, 'refused')
    const strict = createRegistry({ store, policy: { kind: 'refuse' } }).registry
    assert.equal((await strict.identify({ macs: [mac(1)] }, ADDRESS)).state, 'approved')
    assert.equal(waiting.id, admitted.id)
  })

  it('writes nothing when a known machine reconnects within a minute', async () => {
    const { registry, store, clock } = createRegistry()
    await registry.identify({ macs: [mac(1)] }, ADDRESS)
    const { writes } = store
    clock.nowMs += 59_000
    await registry.identify({ macs: [mac(1)] }, ADDRESS)
    assert.equal(store.writes, writes)
    clock.nowMs += 2000
    assert.equal((await registry.identify({ macs: [mac(1)] }, ADDRESS)).lastSeenMs, clock.nowMs)
    const moved = await registry.identify({ macs: [mac(1)] }, '192.0.2.2')
    assert.equal(moved.address, '192.0.2.2')
  })

  it('still knows a known machine when the database cannot be written', async () => {
    const { registry, store, clock } = createRegistry()
    const known = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    clock.nowMs += 120_000
    store.transact = async () => {
      throw new Error('disk full')
    }
    assert.deepEqual(await registry.identify({ macs: [mac(1)] }, ADDRESS), known)
    await assert.rejects(registry.identify({ macs: [mac(2)] }, ADDRESS), /disk full/)
  })

  it('skips host names that are given away', async () => {
    const { registry } = createRegistry()
    const { id } = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    await registry.rename(id, 'client-2')
    assert.equal((await registry.identify({ macs: [mac(2)] }, ADDRESS)).hostname, 'client-3')
  })
})

describe('find()', () => {
  it('finds a client by id, prefix of the id, host name and MAC', async () => {
    const { registry } = createRegistry()
    const { id } = await registry.identify({ macs: [mac(10)] }, ADDRESS)
    for (const selector of [
      id,
      id.slice(0, 5),
      'Client-1',
      mac(10).toUpperCase().replaceAll(':', '-'),
    ]) {
      assert.equal((await registry.find(selector)).id, id, selector)
    }
  })

  it('refuses what names nobody, and prefixes that name several', async () => {
    const { registry, store } = createRegistry()
    const client = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    for (const selector of ['', client.id.slice(0, 2), 'nobody', mac(9), 'client/']) {
      await assert.rejects(registry.find(selector), { code: 'NOT_FOUND' }, selector)
    }
    for (const id of ['abc1000000000000', 'abc2000000000000']) {
      await store.transact([], [{ type: 'put', key: `client/${id}`, value: { ...client, id } }])
    }
    await assert.rejects(registry.find('abc'), { code: 'INVALID_ARGUMENT', message: /2 ids/ })
    assert.equal((await registry.find('abc1')).id, 'abc1000000000000')
  })
})

describe('administration', () => {
  it('approve(), assign(), unassign() and rename() tell listeners which client changed', async () => {
    const { registry, changed } = createRegistry()
    const { id } = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    assert.equal((await registry.approve(id)).state, 'approved')
    assert.deepEqual((await registry.assign(id, ['a', 'b'], { only: false })).assignments, [
      'a',
      'b',
    ])
    assert.deepEqual((await registry.assign(id, ['b', 'c'], { only: false })).assignments, [
      'a',
      'b',
      'c',
    ])
    assert.deepEqual((await registry.unassign(id, ['a'])).assignments, ['b', 'c'])
    assert.deepEqual((await registry.assign(id, ['d'], { only: true })).assignments, ['d'])
    assert.equal((await registry.rename(id, 'reception')).hostname, 'reception')
    assert.deepEqual(
      changed,
      Array.from({ length: 6 }, () => id),
    )
  })

  it('rememberChoice() is kept, and forgotten when the vDisk is taken away', async () => {
    const { registry, changed } = createRegistry()
    const { id } = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    await registry.assign(id, ['a', 'b'], { only: false })
    await registry.rememberChoice(id, 'b')
    assert.equal((await registry.get(id))?.lastChoice, 'b')
    assert.equal(changed.length, 1)
    assert.equal((await registry.unassign(id, ['b'])).lastChoice, undefined)
    await registry.rememberChoice('0000000000000000', 'b')
  })

  it('assign() refuses more vDisks than a menu holds', async () => {
    const { registry } = createRegistry()
    const { id } = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    const many = Array.from({ length: 65 }, (_, n) => `v${n}`)
    await assert.rejects(registry.assign(id, many, { only: true }), { code: 'LIMIT_EXCEEDED' })
  })

  it('rename() refuses names that are taken or no host names, and frees the old one', async () => {
    const { registry } = createRegistry()
    const first = await registry.identify({ macs: [mac(1)] }, ADDRESS)
    const second = await registry.identify({ macs: [mac(2)] }, ADDRESS)
    await assert.rejects(registry.rename(second.id, 'client-1'), { code: 'ALREADY_EXISTS' })
    for (const name of ['', 'Reception', 'a.b', '-a', 'x'.repeat(64)]) {
      await assert.rejects(registry.rename(second.id, name), { code: 'INVALID_ARGUMENT' }, name)
    }
    await registry.rename(first.id, 'reception')
    assert.equal((await registry.rename(second.id, 'client-1')).hostname, 'client-1')
    assert.equal((await registry.rename(second.id, 'client-1')).hostname, 'client-1')
  })

  it('remove() forgets the client; the same machine is new, under a new machine-id', async () => {
    const { registry, store } = createRegistry()
    const uuid = 'aaaaaaaa-1111-4222-8333-444444444444'
    const before = await registry.identify({ macs: [mac(1)], uuid }, ADDRESS)
    await registry.remove(before.id)
    assert.deepEqual(await store.range(CLIENT_MAC_KEYS), [])
    await assert.rejects(registry.find('client-1'), { code: 'NOT_FOUND' })
    await assert.rejects(registry.remove(before.id), { code: 'NOT_FOUND' })
    const after = await registry.identify({ macs: [mac(1)], uuid }, ADDRESS)
    assert.notEqual(after.machineId, before.machineId)
  })
})
