import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { enrolCode, parseEnrolCode } from '#shared/identity/enrol-code.ts'

const SECRET = Buffer.alloc(32, 1)

describe('enrolCode()', () => {
  it('is the same for a key and a boot, and another one for every other', () => {
    const code = enrolCode(SECRET, 'key', 'boot')
    assert.equal(code, 'GSFW-PJLS')
    assert.equal(enrolCode(SECRET, 'key', 'boot'), code)
    assert.notEqual(enrolCode(SECRET, 'key', 'boot 2'), code)
    assert.notEqual(enrolCode(SECRET, 'key 2', 'boot'), code)
    assert.notEqual(enrolCode(Buffer.alloc(32, 2), 'key', 'boot'), code)
  })

  it('uses all letters at all places', () => {
    const codes = Array.from({ length: 2000 }, (_, n) => enrolCode(SECRET, 'key', String(n)))
    for (let at = 0; at < 9; at += 1) {
      assert.equal(new Set(codes.map((code) => code[at])).size, at === 4 ? 1 : 20)
    }
  })
})

describe('parseEnrolCode()', () => {
  it('takes what people type', () => {
    for (const text of ['WDJB-MJHT', 'wdjb-mjht', 'wdjbmjht', ' WDJB MJHT ']) {
      assert.equal(parseEnrolCode(text), 'WDJB-MJHT')
    }
  })

  it('takes no host name, id or MAC for one', () => {
    for (const text of ['client-1', 'deadbeef', '52:54:00:12:34:56', 'WDJB', 'WDJBMJHTX', '']) {
      assert.equal(parseEnrolCode(text), undefined)
    }
  })
})
