import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { PathLoad } from '#agent/fetch/path-load.ts'
import { PushGrants } from '#agent/fetch/push-grants.ts'
import { CHUNK_ENCODING, type ObjectHeader } from '#shared/wire/frame.ts'

const entries = [1, 2, 3, 4].map((position) => ({ level: 0, position, storedBytes: 1000 }))

function headerOf(position: number): ObjectHeader {
  return { level: 0, position, encoding: CHUNK_ENCODING.zstd, rawBytes: 4096, storedBytes: 1000 }
}

function create() {
  const load = new PathLoad()
  const grants = new PushGrants(load)
  for (const entry of entries) grants.grant(entry, 4096, 10)
  return { load, grants }
}

describe('PushGrants', () => {
  it('says what is left out, when something comes that was granted behind it', () => {
    const { load, grants } = create()
    assert.deepEqual(grants.pushed(headerOf(1), 20), [])
    assert.deepEqual(grants.pushed(headerOf(3), 20), [entries[1]])
    assert.deepEqual(grants.pushed(headerOf(2), 20), [], 'it came all the same')
    assert.deepEqual([grants.has(0, 2), grants.has(0, 4)], [false, true])
    assert.deepEqual([load.bytes, grants.rawBytes], [1000, 4096])
  })

  it('what was asked for, too, says nothing about what was granted before it', () => {
    const { load, grants } = create()
    grants.answered(headerOf(3))
    assert.equal(load.window.usualMs, 0)
    assert.deepEqual(grants.clear(), [entries[0], entries[1], entries[3]])
    assert.ok(grants.isEmpty && load.isEmpty)
  })

  it('expects what was granted as long after as things take, and others not at all', () => {
    const { grants } = create()
    assert.ok((grants.expectedAtMs(0, 2, 15) ?? 0) > 15)
    grants.pushed(headerOf(1), 40)
    assert.equal(grants.expectedAtMs(0, 2, 45), 40)
    assert.equal(grants.expectedAtMs(0, 9, 45), undefined)
  })
})
