import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { assertHostName, assertVDiskName, isHostName, isVDiskName } from '#shared/names.ts'

const BAD = [
  '',
  '-',
  '-a',
  'a-',
  'A',
  'a b',
  'a_b',
  'ä',
  'a\n',
  '\na',
  'a/b',
  '..',
  '.',
  'a'.repeat(64),
]

describe('names', () => {
  it('isHostName takes labels of lower case only', () => {
    for (const name of ['a', '0', 'client-1', 'a--b', 'x'.repeat(63)]) {
      assert.ok(isHostName(name), name)
    }
    for (const name of [...BAD, 'a.b']) assert.ok(!isHostName(name), JSON.stringify(name))
  })

  it('isVDiskName takes dots besides, but none at an end', () => {
    for (const name of ['a', 'debian-12.7', 'a..b', 'x'.repeat(63)]) assert.ok(isVDiskName(name))
    for (const name of [...BAD, '.a', 'a.']) assert.ok(!isVDiskName(name), JSON.stringify(name))
  })

  it('assertHostName and assertVDiskName say what was wrong with which name', () => {
    assertHostName('client-1')
    assertVDiskName('debian-12.7')
    assert.throws(() => assertHostName('a.b'), {
      code: 'INVALID_ARGUMENT',
      message: /^Cannot use "a.b" as the name of a client: expected 1 to 63 of letters a-z/,
    })
    assert.throws(() => assertVDiskName('A\n'), {
      code: 'INVALID_ARGUMENT',
      message: /^Cannot use "A\\n" as the name of a vDisk: .*"-" and "."/,
    })
  })

  it('takes no longer than its text is, whatever that is', () => {
    const started = performance.now()
    assert.ok(!isVDiskName(`${'a-'.repeat(500_000)}!`))
    assert.ok(performance.now() - started < 1000)
  })
})
