import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  assertKeepable,
  DEFAULT_WRITE_CACHE,
  withWriteCache,
  writeCacheOf,
} from '#server/clients/write-cache-settings.ts'

const refused = { code: 'INVALID_ARGUMENT' }

describe('write cache settings', () => {
  it('are those of the client, else of its vDisk, else the default', () => {
    assert.deepEqual(writeCacheOf(undefined, undefined), DEFAULT_WRITE_CACHE)
    const vdisk = { writeCache: { place: 'disk', limitBytes: 5 } } as const
    const client = { writeCache: { isKept: true, limitBytes: 7 } }
    assert.deepEqual(writeCacheOf(client, vdisk), { place: 'disk', isKept: true, limitBytes: 7 })
  })

  it('are changed one by one, and taken back', () => {
    const set = withWriteCache({ place: 'disk' }, { isKept: true })
    assert.deepEqual(set, { writeCache: { place: 'disk', isKept: true } })
    assert.deepEqual(withWriteCache(set.writeCache, { isKept: null }), {
      writeCache: { place: 'disk' },
    })
    assert.deepEqual(withWriteCache({ place: 'disk' }, { place: null }), {})
  })

  it('that keep something want a place that survives', () => {
    for (const place of ['auto', 'ram'] as const) {
      assert.throws(() => withWriteCache({ place }, { isKept: true }), refused)
      assert.throws(() => assertKeepable({ place, isKept: true, limitBytes: 0 }), refused)
      assertKeepable({ place, isKept: false, limitBytes: 0 })
    }
    for (const place of ['disk', 'server'] as const) {
      withWriteCache({ isKept: true }, { place })
      assertKeepable({ place, isKept: true, limitBytes: 0 })
    }
    // The place may come from the vDisk.
    withWriteCache({}, { isKept: true })
  })
})
