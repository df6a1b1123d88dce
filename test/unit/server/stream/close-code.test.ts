import assert from 'node:assert/strict'
import { it } from 'node:test'
import { closeReason } from '#server/stream/close-code.ts'

it('closeReason() leaves short texts alone', () => {
  assert.equal(closeReason('the server stops'), 'the server stops')
  assert.equal(closeReason('x'.repeat(123)), 'x'.repeat(123))
})

it('closeReason() cuts long texts to 123 bytes, never inside a character', () => {
  assert.equal(closeReason('x'.repeat(124)), 'x'.repeat(123))
  assert.equal(closeReason(`${'x'.repeat(122)}üü`), 'x'.repeat(122))
  assert.equal(closeReason(`${'x'.repeat(121)}üü`), `${'x'.repeat(121)}ü`)
  assert.equal(closeReason(`${'x'.repeat(121)}😀`), 'x'.repeat(121))
})
