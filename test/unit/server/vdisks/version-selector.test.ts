import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { VersionRecord } from '#server/state/records.ts'
import { parseVersionSelector, selectVersion } from '#server/vdisks/version-selector.ts'

const versions = [
  { number: 1, versionId: `abcd${'0'.repeat(60)}` },
  { number: 2, versionId: `abce${'0'.repeat(60)}` },
  { number: 1234, versionId: `5678${'0'.repeat(60)}` },
  { number: 5678, versionId: `1234${'0'.repeat(60)}` },
] as VersionRecord[]

const select = (selector: string) => selectVersion('debian', versions, selector).number

it('parseVersionSelector() parts vDisk and version', () => {
  assert.deepEqual(parseVersionSelector('debian'), { vdisk: 'debian' })
  assert.deepEqual(parseVersionSelector('debian-12.7@3'), { vdisk: 'debian-12.7', version: '3' })
  for (const wrong of ['@3', 'debian@', '@']) {
    assert.throws(() => parseVersionSelector(wrong), { code: 'INVALID_ARGUMENT' }, wrong)
  }
})

it('selectVersion() takes a number, else the beginning of an id', () => {
  assert.deepEqual(['1', 'ABCE', 'abcd00', versions[1]?.versionId ?? ''].map(select), [1, 2, 1, 2])
  assert.deepEqual(['1234', '12340'].map(select), [1234, 5678], 'a number before an id')
})

it('selectVersion() says what there is when it finds none, or several', () => {
  for (const wrong of ['3', 'abc', 'ffff', '', '-1', '01']) {
    assert.throws(
      () => select(wrong),
      { code: 'NOT_FOUND', message: /vDisk "debian".*1, 2, 1234, 5678/ },
      wrong,
    )
  }
  const twins = [...versions, { number: 9, versionId: `abcd${'1'.repeat(60)}` } as VersionRecord]
  assert.throws(() => selectVersion('debian', twins, 'abcd'), { code: 'INVALID_ARGUMENT' })
})
