import assert from 'node:assert/strict'
import { it } from 'node:test'
import { transactUntilWritten } from '#server/state/transact-until-written.ts'
import { MemoryStateStore } from '#test/support/memory-state-store.ts'

it('transactUntilWritten() counts to 50 when 50 callers add one to the same value', async () => {
  const store = new MemoryStateStore()
  const increment = () =>
    transactUntilWritten(store, async () => {
      const entry = await store.get('n')
      const value = ((entry?.value as number | undefined) ?? 0) + 1
      return {
        conditions: [{ key: 'n', revision: entry?.revision ?? 0 }],
        changes: [{ type: 'put', key: 'n', value }],
        result: value,
      }
    })
  const results = await Promise.all(Array.from({ length: 50 }, increment))
  assert.equal((await store.get('n'))?.value, 50)
  assert.equal(new Set(results).size, 50)
})

it('transactUntilWritten() writes nothing when the attempt has no changes', async () => {
  const store = new MemoryStateStore()
  const attempt = async () => ({ conditions: [], changes: [], result: 7 })
  assert.equal(await transactUntilWritten(store, attempt), 7)
  assert.equal(store.tries, 0)
})

it('transactUntilWritten() throws when its conditions can never hold', async () => {
  const store = new MemoryStateStore()
  const attempt = async () => ({
    conditions: [{ key: 'n', revision: 99 }],
    changes: [{ type: 'put' as const, key: 'n', value: 1 }],
    result: 0,
  })
  await assert.rejects(transactUntilWritten(store, attempt), /Invariant broken/)
})
