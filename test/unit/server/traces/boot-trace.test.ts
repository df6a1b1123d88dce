import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type BootTrace, decodeBootTrace, encodeBootTrace } from '#server/traces/boot-trace.ts'
import { BootwireError } from '#shared/errors.ts'

const TRACE: BootTrace = {
  origin: 'carried',
  bootId: '0123456789abcdef',
  model: 'Größe GmbH Thin Client 5',
  clientId: 'fedcba9876543210',
  isConfirmed: true,
  recordedAtMs: 1_767_225_600_123,
  entries: [
    { position: 0, atMs: 0 },
    { position: 0x0102_0304, atMs: 1500 },
    { position: 9, atMs: 1500 },
  ],
}

const golden = readFileSync(new URL('../../../golden/trace/format-2.bin', import.meta.url))

describe('boot trace', () => {
  it('encodeBootTrace and decodeBootTrace agree with the golden file', () => {
    assert.equal(Buffer.from(encodeBootTrace(TRACE)).toString('hex'), golden.toString('hex'))
    assert.deepEqual(decodeBootTrace(golden), TRACE)
  })

  it('decodeBootTrace refuses a file of another format, cut, or with any bit flipped', () => {
    for (let length = 0; length < golden.length; length += 1) {
      const cut = golden.subarray(0, length)
      assert.throws(() => decodeBootTrace(cut), { code: 'STATE_UNREADABLE' })
    }
    for (let at = 0; at < golden.length * 8; at += 1) {
      const flipped = Buffer.from(golden)
      flipped[at >> 3] = (flipped[at >> 3] ?? 0) ^ (1 << (at & 7))
      assert.throws(() => decodeBootTrace(flipped), { code: 'STATE_UNREADABLE' })
    }
  })

  it('decodeBootTrace gives a trace or a BootwireError, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        try {
          decodeBootTrace(bytes)
        } catch (error) {
          assert.ok(error instanceof BootwireError)
        }
      }),
    )
  })
})
