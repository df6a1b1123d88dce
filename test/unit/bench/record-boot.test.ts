import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseLog, parseRecord, untilUp } from '#test/bench/record-boot.ts'

/** As nbdkit 1.32 writes it. */
const LOG = `2026-11-26 00:09:31.000100 connection=1 Connect export="" tls=0 size=0x40000000
2026-11-26 00:09:31.000300 connection=1 Read id=1 offset=0x0 count=0x200 ...
2026-11-26 00:09:31.000400 connection=1 ...Read id=1 return=0
2026-11-26 00:09:59.999500 connection=1 Read id=2 offset=0x0 count=0x1000 ...
2026-11-26 00:10:00.000500 connection=1 Write id=3 offset=0x1000 count=0x2000 fua=0 ...
2026-11-26 00:10:00.000750 connection=1 ...Write id=3 return=0
2026-11-26 00:10:00.019500 connection=1 ...Read id=2 return=0
2026-11-26 00:10:00.020000 connection=1 Flush id=4 ...
2026-11-26 00:10:00.021000 connection=1 Read id=5 offset=0x0 count=0x1000 ...
`

const ACCESSES = [
  { atMs: 0, doneMs: 20, op: 'read', offsetBytes: 0, sizeBytes: 4096 },
  { atMs: 1, doneMs: 1.25, op: 'write', offsetBytes: 4096, sizeBytes: 8192 },
]

describe('parseLog()', () => {
  it('takes what was answered, from the first read that is no firmware’s', () => {
    const { upMs, accesses } = parseLog(LOG, Date.UTC(2026, 10, 26, 0, 10, 0, 20))
    const rounded = accesses.map((it) => ({
      ...it,
      atMs: Math.round(it.atMs * 1000) / 1000,
      doneMs: Math.round(it.doneMs * 1000) / 1000,
    }))
    assert.deepEqual(rounded, ACCESSES)
    assert.equal(Math.round(upMs * 10) / 10, 20.5)
  })
})

describe('parseRecord()', () => {
  const lines = [
    'up_ms\t0.500',
    'at_ms\tdone_ms\top\toffset_bytes\tsize_bytes',
    '0.000\t20.000\tread\t0\t4096',
    '1.000\t1.250\twrite\t4096\t8192',
  ]

  it('returns what was recorded', () => {
    const record = parseRecord(`${lines.join('\n')}\n`)
    assert.deepEqual(record, { upMs: 0.5, accesses: ACCESSES })
    assert.deepEqual(untilUp(record), ACCESSES.slice(0, 1))
  })

  it('refuses a text of other columns', () => {
    assert.throws(() => parseRecord(lines.slice(1).join('\n')), /begins with/)
  })
})
