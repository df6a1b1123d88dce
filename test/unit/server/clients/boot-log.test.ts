import assert from 'node:assert/strict'
import { it } from 'node:test'
import { BOOTS_KEPT_PER_CLIENT, BootLog } from '#server/clients/boot-log.ts'
import { silentLog } from '#server/log.ts'
import { BOOT_KEYS, type BootRecord } from '#server/state/records.ts'
import { MemoryStateStore } from '#test/support/memory-state-store.ts'

const CLIENT = 'c1c1c1c1c1c1c1c1'

function createBootLog(store = new MemoryStateStore()) {
  const clock = { nowMs: 1_700_000_000_000 }
  const boots = new BootLog({ store, now: () => clock.nowMs, log: silentLog() })
  return { boots, store, clock }
}

async function stored(store: MemoryStateStore): Promise<BootRecord[]> {
  return (await store.range(BOOT_KEYS)).map(({ value }) => value as BootRecord)
}

it('BootLog keeps a boot with its phases in order of time', async () => {
  const { boots, store, clock } = createBootLog()
  const boot = await boots.begin(CLIENT)
  boot.stamp('agent', clock.nowMs + 30)
  boot.stamp('ipxe', clock.nowMs)
  boot.stamp('ipxe', clock.nowMs + 99)
  await boots.save()
  const [record] = await stored(store)
  assert.match(record?.bootId ?? '', /^[0-9a-f]{32}$/)
  assert.deepEqual(record?.phases, [
    { phase: 'ipxe', atMs: clock.nowMs },
    { phase: 'agent', atMs: clock.nowMs + 30 },
  ])
  assert.deepEqual(await boots.list(CLIENT), [record])
})

it('BootLog saves the changes of many boots in one transaction', async () => {
  const { boots, store } = createBootLog()
  const started = []
  for (let n = 0; n < 10; n += 1) started.push(await boots.begin(`c${n}`))
  const { writes } = store
  for (const boot of started) boot.stamp('ipxe', 1)
  await boots.save()
  await boots.save()
  assert.equal(store.writes, writes + 1)
})

it('BootLog saves the end of a boot at once', async () => {
  const { boots, store, clock } = createBootLog()
  const boot = await boots.begin(CLIENT)
  boot.addWireBytes(1000)
  clock.nowMs += 5000
  await boots.end(boot, 'poweroff')
  const [record] = await stored(store)
  assert.deepEqual(
    [record?.end, record?.endedAtMs, record?.wireBytes],
    ['poweroff', clock.nowMs, 1000],
  )
})

it('BootLog resumes a boot that was planned, one that ended, and one it does not know', async () => {
  const { boots, clock } = createBootLog()
  const planned = await boots.begin(CLIENT)
  assert.equal(await boots.resume(CLIENT, planned.record.bootId, 0), planned)
  await boots.end(planned, 'lost')
  const resumed = await boots.resume(CLIENT, planned.record.bootId, 0)
  assert.deepEqual([resumed.record.end, resumed.record.endedAtMs], ['running', undefined])
  const unknown = await boots.resume(CLIENT, 'f'.repeat(32), clock.nowMs - 100)
  assert.equal(unknown.record.startedAtMs, clock.nowMs - 100)
  assert.equal((await boots.list()).length, 2)
})

it('BootLog does not take the boot of another client with the same id', async () => {
  const { boots } = createBootLog()
  const boot = await boots.begin(CLIENT)
  const other = await boots.resume('d2d2d2d2d2d2d2d2', boot.record.bootId, 1)
  assert.notEqual(other, boot)
})

it('BootLog takes an earlier boot for lost when the client boots again, unless it has a session', async () => {
  const { boots } = createBootLog()
  const first = await boots.begin(CLIENT)
  const second = await boots.begin(CLIENT)
  second.attached = true
  await boots.begin(CLIENT)
  assert.deepEqual([first.record.end, second.record.end], ['lost', 'running'])
})

it('BootLog marks what ran when the server was killed as lost, and it can come back', async () => {
  const { boots, store } = createBootLog()
  const boot = await boots.begin(CLIENT)
  await boots.save()
  const after = createBootLog(store)
  after.clock.nowMs += 60_000
  await after.boots.markInterrupted()
  assert.deepEqual(
    (await stored(store)).map(({ end }) => end),
    ['lost'],
  )
  const resumed = await after.boots.resume(CLIENT, boot.record.bootId, 0)
  assert.equal(resumed.record.end, 'running')
  assert.equal(resumed.record.reconnects, 1)
  assert.equal((await after.boots.list(CLIENT)).length, 1)
})

it('BootLog keeps a bounded number of boots per client, the newest ones', async () => {
  const { boots, clock } = createBootLog()
  await boots.end(await boots.begin('other'), 'poweroff')
  for (let n = 0; n < BOOTS_KEPT_PER_CLIENT + 5; n += 1) {
    clock.nowMs += 1000
    await boots.end(await boots.begin(CLIENT), 'poweroff')
  }
  const kept = await boots.list(CLIENT)
  assert.equal(kept.length, BOOTS_KEPT_PER_CLIENT)
  assert.equal(kept.at(-1)?.startedAtMs, clock.nowMs)
  assert.equal((await boots.list('other')).length, 1)
})

it('BootLog writes nothing more of a client that was removed', async () => {
  const { boots, store } = createBootLog()
  const boot = await boots.begin(CLIENT)
  await boots.save()
  await boots.removeClient(CLIENT)
  boot.stamp('login', 1)
  await boots.end(boot, 'lost')
  assert.deepEqual(await stored(store), [])
})

it('BootLog goes on when the database cannot be written', async () => {
  const { boots, store } = createBootLog()
  const boot = await boots.begin(CLIENT)
  const transact = store.transact.bind(store)
  store.transact = async () => {
    throw new Error('disk full')
  }
  await boots.save()
  store.transact = transact
  boot.stamp('login', 1)
  await boots.save()
  assert.equal((await stored(store)).length, 1)
})
