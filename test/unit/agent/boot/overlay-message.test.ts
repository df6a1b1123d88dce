import assert from 'node:assert/strict'
import { it } from 'node:test'
import { overlayMessage } from '#agent/boot/overlay-message.ts'
import { BootwireError } from '#shared/errors.ts'
import { MiB } from '#shared/units.ts'

const FILLING = { kind: 'write-cache-filling', limitBytes: 100 * MiB } as const

it('overlayMessage() warns of a write cache that fills', () => {
  assert.deepEqual(overlayMessage({ ...FILLING, percent: 75, usedBytes: 75 * MiB }), {
    level: 'warning',
    text: 'The write cache is 75 % full: 75.0 MiB of 100.0 MiB',
    isForScreen: true,
  })
})

it('overlayMessage() says what to do when the write cache is full', () => {
  const { level, text } = overlayMessage({ ...FILLING, percent: 100, usedBytes: 100 * MiB })
  assert.equal(level, 'error')
  assert.match(
    text,
    /^BW-E407 The write cache is 100 % full.*; programs that write wait\n {2}Delete something/,
  )
})

it('overlayMessage() tells the server of objects that came damaged', () => {
  const error = new BootwireError('CHUNK_CORRUPT', 'Cannot use chunk 7: it does not decode')
  const fault = { level: 0, position: 7, count: 1, error }
  const message = overlayMessage({ kind: 'objects-corrupt', fault })
  assert.deepEqual([message.level, message.isForScreen], ['error', false])
  assert.match(message.text, /^An object came damaged .*: BW-E210 Cannot use chunk 7: it does not/)
  const many = overlayMessage({ kind: 'objects-corrupt', fault: { ...fault, count: 12 } })
  assert.match(many.text, /^12 objects came damaged/)
})
