import assert from 'node:assert/strict'
import { it } from 'node:test'
import { formatBytes, GiB, KiB, MiB, TiB } from '#shared/units.ts'

it('formatBytes takes the largest unit that the count reaches', () => {
  const texts = [0, 1023, KiB, 1536, MiB, 17.7 * MiB, GiB, 1.25 * GiB, 1023 * GiB, 16 * TiB].map(
    formatBytes,
  )
  assert.deepEqual(texts, [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '1.5 KiB',
    '1.0 MiB',
    '17.7 MiB',
    '1.00 GiB',
    '1.25 GiB',
    '1023.00 GiB',
    '16.00 TiB',
  ])
})
