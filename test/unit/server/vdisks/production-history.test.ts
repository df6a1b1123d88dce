import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ProductionChange, VDiskRecord, VersionRecord } from '#server/state/records.ts'
import { rollbackTarget, withProduction } from '#server/vdisks/production-history.ts'

const idOf = (number: number) => String(number).repeat(64)

const versions = [1, 2, 3].map((number) => ({ number, versionId: idOf(number) }) as VersionRecord)

/** A vDisk whose version 1 was imported, and what was done since: `p2` promoted 2, `r` rolled back. */
function after(steps: string, existing = versions): VDiskRecord {
  const first: ProductionChange = { versionId: idOf(1), number: 1, atMs: 0, by: 'import' }
  let record = {
    name: 'v',
    title: 'v',
    createdAtMs: 0,
    productionVersionId: idOf(1),
    history: [first],
    nextNumber: 4,
  } as VDiskRecord
  for (const step of steps.split(' ').filter((it) => it !== '')) {
    const version = step === 'r' ? rollbackTarget(record, existing) : versions[Number(step[1]) - 1]
    assert.ok(version, `${steps}: ${step}`)
    record = withProduction(record, version, { by: step === 'r' ? 'rollback' : 'promote', atMs: 1 })
  }
  return record
}

describe('rollbackTarget()', () => {
  const cases: [string, number | undefined][] = [
    ['', undefined],
    ['p2', 1],
    ['p2 p3', 2],
    ['p2 p3 r', 1],
    ['p2 p3 r r', undefined],
    ['p3', 1],
    ['p2 r p3', 1],
    ['p2 p1 p2', 1],
    ['p2 p1 p2 r', 2],
    ['p2 p1 p2 r r', 1],
    ['p2 p2 p2', 1],
  ]
  for (const [steps, expected] of cases) {
    it(`is ${expected ?? 'none'} after "${steps}"`, () => {
      assert.equal(rollbackTarget(after(steps), versions)?.number, expected)
    })
  }

  it('passes over versions that are removed', () => {
    const left = versions.filter(({ number }) => number !== 2)
    assert.equal(rollbackTarget(after('p2 p3'), left)?.number, 1)
    assert.equal(rollbackTarget(after('p2 p3', left), [])?.number, undefined)
  })
})

describe('withProduction()', () => {
  it('keeps what was, and the record as it is when nothing changes', () => {
    const record = after('p2 p3 r')
    const changes = record.history.map(({ number, by }) => `${by} ${number}`)
    assert.deepEqual(changes, ['import 1', 'promote 2', 'promote 3', 'rollback 2'])
    const [, second] = versions
    assert.ok(second)
    assert.equal(withProduction(record, second, { by: 'promote', atMs: 2 }), record)
  })

  it('forgets the oldest changes of a vDisk that changes without end', () => {
    const record = after(Array.from({ length: 90 }, () => 'p2 p3').join(' '))
    assert.equal(record.history.length, 100)
    assert.equal(rollbackTarget(record, versions)?.number, 2)
  })
})
