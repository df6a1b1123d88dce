import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  decodeIdentityPage,
  encodeIdentityPage,
  IDENTITY_PAGE_BYTES,
  type IdentityRecord,
  SERVER_PINS_MAX,
} from '#agent/identity/identity-page.ts'

const EMPTY = Buffer.alloc(IDENTITY_PAGE_BYTES)
const GOLDEN = new URL('../../../golden/identity/page.bin', import.meta.url)

const pinOf = (byte: number) => Buffer.alloc(32, byte).toString('base64url')

const RECORD = { seed: Buffer.alloc(32, 7), serverPins: [pinOf(1), pinOf(2)] }

const record: fc.Arbitrary<IdentityRecord> = fc.record(
  {
    seed: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
    serverPins: fc.array(
      fc
        .uint8Array({ minLength: 32, maxLength: 32 })
        .map((it) => Buffer.from(it).toString('base64url')),
      { maxLength: SERVER_PINS_MAX },
    ),
  },
  { noNullPrototype: true },
)

describe('an identity page', () => {
  it('has the bytes of FORMAT.md', () => {
    const page = encodeIdentityPage(encodeIdentityPage(EMPTY, RECORD), {
      ...RECORD,
      serverPins: [],
    })
    assert.equal(page.toString('hex'), readFileSync(GOLDEN).toString('hex'))
  })

  it('holds what was written last', () => {
    const histories = fc.array(record, { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(histories, (records) => {
        const page = records.reduce<Buffer>((before, it) => encodeIdentityPage(before, it), EMPTY)
        assert.deepEqual(decodeIdentityPage(page), records.at(-1))
      }),
    )
  })

  it('holds the one before or the new one, wherever writing stops', () => {
    const cut = fc.integer({ min: 0, max: IDENTITY_PAGE_BYTES })
    fc.assert(
      fc.property(record, record, cut, (before, after, at) => {
        const old = encodeIdentityPage(EMPTY, before)
        const next = encodeIdentityPage(old, after)
        const torn = Buffer.concat([next.subarray(0, at), old.subarray(at)])
        const found = decodeIdentityPage(torn)
        const isOne = [before, after].some((it) => JSON.stringify(it) === JSON.stringify(found))
        assert.ok(isOne)
      }),
    )
  })

  it('is none where nothing sound is', () => {
    assert.equal(decodeIdentityPage(EMPTY), undefined)
    assert.equal(decodeIdentityPage(Buffer.alloc(IDENTITY_PAGE_BYTES, 0xff)), undefined)
    const page = encodeIdentityPage(EMPTY, RECORD)
    for (const at of [2048, 2052, 2060, 2070, 4095]) {
      const broken = Buffer.from(page)
      broken[at] = (broken[at] ?? 0) ^ 1
      assert.equal(decodeIdentityPage(broken), undefined, `byte ${at}`)
    }
  })
})
