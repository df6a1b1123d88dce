import assert from 'node:assert/strict'
import { it } from 'node:test'
import { assertHostnamePattern, hostnameFor } from '#server/clients/hostname-pattern.ts'

it('hostnameFor() puts the number and the digits of the MAC into the pattern', () => {
  assert.equal(hostnameFor('client-{n}', 12, undefined, false), 'client-12')
  assert.equal(hostnameFor('pc-{mac}', 1, '52:54:00:aa:bb:01', false), 'pc-525400aabb01')
  assert.equal(hostnameFor('{n}-{mac}', 3, '52:54:00:aa:bb:01', true), '3-525400aabb01')
})

it('hostnameFor() appends the number when a name without one is taken', () => {
  assert.equal(hostnameFor('pc-{mac}', 4, '52:54:00:aa:bb:01', true), 'pc-525400aabb01-4')
})

it('hostnameFor() stays unique when the machine has no MAC', () => {
  assert.equal(hostnameFor('pc-{mac}', 4, undefined, false), 'pc-unknown-4')
})

it('assertHostnamePattern() accepts patterns whose names are host names', () => {
  for (const pattern of ['client-{n}', '{n}', 'pc{mac}', 'a-{n}-b']) assertHostnamePattern(pattern)
})

it('assertHostnamePattern() refuses what gives no name, or the same to all', () => {
  const wrong = ['client', '', 'Client-{n}', '-{n}', 'a_{n}', '{n}.local', `${'x'.repeat(60)}{n}`]
  for (const pattern of wrong) {
    assert.throws(() => assertHostnamePattern(pattern), { code: 'INVALID_ARGUMENT' }, pattern)
  }
})
