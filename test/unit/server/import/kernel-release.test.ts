import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compareReleases } from '#server/import/kernel-release.ts'

const OLD_TO_NEW = [
  '5.10.0-8-amd64',
  '5.10.0-28-amd64',
  '6.1.0-rc3-amd64',
  '6.1.0-9-amd64',
  '6.1.0-10-amd64',
  '6.1.0-10-cloud-amd64',
  '6.9.1',
  '6.10.0',
  '6.10.0.1',
  '10.0.0',
]

describe('compareReleases', () => {
  it('puts releases in the order they came out', () => {
    assert.deepEqual(OLD_TO_NEW.toReversed().sort(compareReleases), OLD_TO_NEW)
  })

  it('is the same both ways', () => {
    for (const a of OLD_TO_NEW) {
      for (const b of OLD_TO_NEW) {
        assert.equal(Math.sign(compareReleases(a, b)) + Math.sign(compareReleases(b, a)), 0)
      }
    }
  })
})
