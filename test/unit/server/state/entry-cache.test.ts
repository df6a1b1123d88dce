import assert from 'node:assert/strict'
import { it } from 'node:test'
import { EntryCache } from '#server/state/entry-cache.ts'

it('EntryCache gives entries and ranges until their keys change', () => {
  const cache = new EntryCache()
  cache.rememberEntry('v/a/1', 'one')
  cache.rememberRange('v/a/', [['v/a/1', 'one']])
  cache.rememberRange('v/b/', [])
  assert.deepEqual([cache.entry('v/a/1'), cache.range('v/a/')], ['one', [['v/a/1', 'one']]])
  cache.changed('v/a/2', 'two')
  assert.deepEqual([cache.entry('v/a/2'), cache.range('v/a/')], ['two', undefined])
  assert.deepEqual(cache.range('v/b/'), [])
  cache.changed('v/a/1', undefined)
  assert.equal(cache.entry('v/a/1'), undefined)
})

it('EntryCache forgets what was used longest ago, and keeps no long ranges', () => {
  const cache = new EntryCache()
  cache.rememberEntry('first', '1')
  cache.rememberEntry('second', '2')
  for (let at = 2; at < 4096; at += 1) cache.rememberEntry(`entry ${at}`, '')
  cache.entry('first')
  cache.rememberEntry('one more', '')
  assert.deepEqual([cache.entry('first'), cache.entry('second')], ['1', undefined])
  for (let at = 0; at <= 256; at += 1) cache.rememberRange(`range ${at}`, [])
  assert.deepEqual([cache.range('range 0'), cache.range('range 1')], [undefined, []])
  const rows = Array.from({ length: 65 }, (_, at) => [`k${at}`, ''] as const)
  cache.rememberRange('k', rows)
  assert.equal(cache.range('k'), undefined)
  cache.rememberRange('k', rows.slice(1))
  assert.equal(cache.range('k')?.length, 64)
})
