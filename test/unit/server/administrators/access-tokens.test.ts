import assert from 'node:assert/strict'
import { it } from 'node:test'
import { AccessTokens } from '#server/administrators/access-tokens.ts'
import { MemoryStateStore } from '#test/support/memory-state-store.ts'

function fixture() {
  const clock = { nowMs: 1_000_000 }
  const store = new MemoryStateStore()
  return { clock, store, tokens: new AccessTokens(store, () => clock.nowMs) }
}

const WISH = { name: 'helpdesk', role: 'operator', createdBy: 'local:root' } as const

it('a token is found by itself alone, and the database does not have it', async () => {
  const { tokens, store } = fixture()
  const { token, record } = await tokens.create(WISH)
  assert.match(token, /^bwa_[\w-]{43}$/)
  assert.deepEqual(await tokens.check(token), record)
  for (const wrong of [`${token}x`, token.slice(0, -1), record.id, '']) {
    assert.equal(await tokens.check(wrong), undefined)
  }
  const kept = JSON.stringify(await store.range(''))
  assert.equal(kept.includes(token) || kept.includes(token.slice(4)), false)
})

it('a token ends when its time is over, and when it is removed', async () => {
  const { tokens, clock } = fixture()
  const first = await tokens.create({ ...WISH, untilMs: clock.nowMs + 1000 })
  clock.nowMs += 999
  assert.notEqual(await tokens.check(first.token), undefined)
  clock.nowMs += 1
  assert.equal(await tokens.check(first.token), undefined)
  const second = await tokens.create({ ...WISH, name: 'other' })
  await tokens.remove('other')
  assert.equal(await tokens.check(second.token), undefined)
  await assert.rejects(tokens.remove('other'), { code: 'NOT_FOUND' })
})

it('names are one of each, and such as can be shown', async () => {
  const { tokens } = fixture()
  await tokens.create(WISH)
  await assert.rejects(tokens.create(WISH), { code: 'ALREADY_EXISTS' })
  for (const name of ['', 'local:root', 'a b', '\u001b[2J', 'x'.repeat(64), 'Ä']) {
    await assert.rejects(tokens.create({ ...WISH, name }), { code: 'INVALID_ARGUMENT' })
  }
  for (const untilMs of [0, 1_000_000, Number.MAX_SAFE_INTEGER]) {
    await assert.rejects(tokens.create({ ...WISH, name: 'b', untilMs }), {
      code: 'INVALID_ARGUMENT',
    })
  }
})
