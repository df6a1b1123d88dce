/** What every StateStore must do; called by the tests of each engine. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { StateStore } from '#server/state/state-store.ts'

/** `open` returns an empty store; `reopen` closes it and opens the same data again. */
export interface StateStoreFixture {
  readonly open: () => Promise<StateStore>
  readonly reopen?: (store: StateStore) => Promise<StateStore>
}

export function testStateStore({ open, reopen }: StateStoreFixture): void {
  it('get() returns undefined when the key was never written', async () => {
    await using fixture = await opened(open)
    assert.equal(await fixture.store.get('a'), undefined)
  })

  it('get() returns what was put, with the revision of the transaction', async () => {
    await using fixture = await opened(open)
    const { store } = fixture
    const value = { text: 'ü', list: [1, null, true], nested: { a: 0.5 } }
    const revision = await store.transact([], [{ type: 'put', key: 'a', value }])
    assert.deepEqual(await store.get('a'), { key: 'a', value, revision })
  })

  it('transact() gives each change a higher revision, also after a delete', async () => {
    await using fixture = await opened(open)
    const { store } = fixture
    const first = await store.transact([], [{ type: 'put', key: 'a', value: 1 }])
    const second = await store.transact([], [{ type: 'delete', key: 'a' }])
    const third = await store.transact([], [{ type: 'put', key: 'a', value: 2 }])
    assert.ok(first !== undefined && second !== undefined && third !== undefined)
    assert.ok(0 < first && first < second && second < third)
  })

  it('transact() writes nothing when one of its conditions does not hold', async () => {
    await using fixture = await opened(open)
    const { store } = fixture
    const revision = (await store.transact([], [{ type: 'put', key: 'a', value: 1 }])) ?? 0
    const result = await store.transact(
      [
        { key: 'a', revision },
        { key: 'b', revision: revision + 1 },
      ],
      [
        { type: 'put', key: 'b', value: 2 },
        { type: 'delete', key: 'a' },
      ],
    )
    assert.equal(result, undefined)
    assert.equal((await store.get('a'))?.value, 1)
    assert.equal(await store.get('b'), undefined)
  })

  it('transact() takes revision 0 for a key that must not exist', async () => {
    await using fixture = await opened(open)
    const { store } = fixture
    const create = (value: number) =>
      store.transact([{ key: 'a', revision: 0 }], [{ type: 'put', key: 'a', value }])
    assert.notEqual(await create(1), undefined)
    assert.equal(await create(2), undefined)
    await store.transact([], [{ type: 'delete', key: 'a' }])
    assert.notEqual(await create(3), undefined)
    assert.equal((await store.get('a'))?.value, 3)
  })

  it('transact() lets one of many writers through when all expect the same revision', async () => {
    await using fixture = await opened(open)
    const { store } = fixture
    const attempts = Array.from({ length: 20 }, (_, value) =>
      store.transact([{ key: 'a', revision: 0 }], [{ type: 'put', key: 'a', value }]),
    )
    const written = (await Promise.all(attempts)).filter((revision) => revision !== undefined)
    assert.equal(written.length, 1)
  })

  it('range() returns the keys with the prefix, in order, and no others', async () => {
    await using fixture = await opened(open)
    const { store } = fixture
    const keys = ['b/2', 'b/10', 'a/1', 'b', 'b/', 'c/1', 'b/~', 'b0']
    await store.transact(
      [],
      keys.map((key) => ({ type: 'put', key, value: key })),
    )
    const found = (await store.range('b/')).map(({ key }) => key)
    assert.deepEqual(found, ['b/', 'b/10', 'b/2', 'b/~'])
    assert.equal((await store.range('')).length, keys.length)
  })

  it('values that were read can be changed without changing what is stored', async () => {
    await using fixture = await opened(open)
    const { store } = fixture
    await store.transact([], [{ type: 'put', key: 'a', value: { n: 1 } }])
    const entry = await store.get('a')
    Object.assign(entry?.value as object, { n: 2 })
    assert.deepEqual((await store.get('a'))?.value, { n: 1 })
  })

  it('what was read during a transaction is not what is read after it', async () => {
    await using fixture = await opened(open)
    const { store } = fixture
    for (let value = 1; value <= 100; value += 1) {
      const put = store.transact([], [{ type: 'put', key: 'a', value }])
      const read = () => Promise.all([store.get('a'), store.range('a')])
      const reads = [read(), setImmediate().then(read)]
      await put
      assert.equal((await store.get('a'))?.value, value)
      await Promise.all(reads)
      assert.equal((await store.get('a'))?.value, value)
      assert.deepEqual((await store.range('a')).at(0)?.value, value)
    }
    await store.transact([], [{ type: 'delete', key: 'a' }])
    assert.deepEqual([await store.get('a'), await store.range('a')], [undefined, []])
    await store.transact([], [{ type: 'put', key: 'ab', value: 1 }])
    assert.equal((await store.range('a')).length, 1)
  })

  if (reopen === undefined) return

  it('values and the revision counter survive closing and opening', async () => {
    let store = await open()
    const before = (await store.transact([], [{ type: 'put', key: 'a', value: 1 }])) ?? 0
    store = await reopen(store)
    assert.deepEqual(await store.get('a'), { key: 'a', value: 1, revision: before })
    const after = (await store.transact([], [{ type: 'put', key: 'b', value: 2 }])) ?? 0
    assert.ok(after > before)
    await store.close()
  })
}

async function opened(
  open: StateStoreFixture['open'],
): Promise<AsyncDisposable & { readonly store: StateStore }> {
  const store = await open()
  return { store, [Symbol.asyncDispose]: () => store.close() }
}
