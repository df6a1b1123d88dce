import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Export } from '#agent/node-nbd/block-device.ts'
import { checkExport } from '#agent/node-nbd/check-export.ts'
import { kernelFlags } from '#agent/node-nbd/export-facts.ts'

const GOOD: Export = {
  name: 'disk',
  description: '',
  sizeBytes: 1024 * 1024,
  readOnly: false,
  minimumBlockBytes: 512,
  preferredBlockBytes: 4096,
  maximumBlockBytes: 32 * 1024 * 1024,
  hot: { moduleUrl: '', data: undefined },
}

it('checkExport refuses what no client could use, and says what it expected', () => {
  checkExport(GOOD)
  checkExport({ ...GOOD, sizeBytes: 0 })
  const bad: [Partial<Export>, RegExp][] = [
    [{ name: 'x'.repeat(4097) }, /name is x+, expected 4096 bytes/],
    [{ minimumBlockBytes: 513 }, /minimumBlockBytes is 513, expected a power of two/],
    [{ minimumBlockBytes: 0 }, /minimumBlockBytes is 0/],
    [{ preferredBlockBytes: 256 }, /preferredBlockBytes is 256/],
    [{ maximumBlockBytes: 2048 }, /maximumBlockBytes is 2048/],
    [{ maximumBlockBytes: 1024 ** 3 }, /at most 64 MiB/],
    [{ sizeBytes: 1000 }, /sizeBytes is 1000, expected a multiple/],
    [{ sizeBytes: -512 }, /sizeBytes is -512/],
  ]
  for (const [change, message] of bad) {
    assert.throws(() => checkExport({ ...GOOD, ...change }), { name: 'RangeError', message })
  }
})

it('kernelFlags offers changes only of what may be written', () => {
  const [readOnly, flush, fua, trim, zeroes, fastZero] = [2, 4, 8, 32, 64, 2048]
  assert.equal(kernelFlags(GOOD) & (readOnly | flush | fua | trim | zeroes), 4 | 8 | 32 | 64)
  assert.equal(kernelFlags({ ...GOOD, readOnly: true }) & (readOnly | fua | trim | zeroes), 2)
  assert.equal(kernelFlags(GOOD) & fastZero, 0)
  assert.equal(kernelFlags({ ...GOOD, fastZeroes: true }) & fastZero, fastZero)
})
