import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseLog, parseRecord } from '#test/bench/record-boot.ts'

/** As nbdkit 1.32 writes it. */
const LOG = `2026-11-26 00:09:31.000100 connection=1 Connect export="" tls=0 size=0x40000000
2026-11-26 00:09:31.000300 connection=1 Read id=1 offset=0x0 count=0x200 ...
2026-11-26 00:09:31.000400 connection=1 ...Read id=1 return=0 (Success)
2026-11-26 00:09:32.250300 connection=1 Write id=2 offset=0x1000 count=0x2000 fua=0 ...
2026-11-26 00:09:32.250500 connection=1 ...Write id=2 return=0 (Success)
2026-11-26 00:09:32.250600 connection=1 Flush id=3 ...
`

const ACCESSES = [
  { atMs: 0, op: 'read', offsetBytes: 0, sizeBytes: 512 },
  { atMs: 1250, op: 'write', offsetBytes: 4096, sizeBytes: 8192 },
]

describe('parseLog()', () => {
  it('takes requests and leaves answers out', () => {
    assert.deepEqual(parseLog(LOG), ACCESSES)
  })
})

describe('parseRecord()', () => {
  const lines = [
    'at_ms\top\toffset_bytes\tsize_bytes',
    '0\tread\t0\t512',
    '1250\twrite\t4096\t8192',
  ]

  it('returns what was recorded', () => {
    assert.deepEqual(parseRecord(`${lines.join('\n')}\n`), ACCESSES)
  })

  it('refuses a text of other columns', () => {
    assert.throws(() => parseRecord(lines.slice(1).join('\n')), /begins with/)
  })
})
