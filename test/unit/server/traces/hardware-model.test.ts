import assert from 'node:assert/strict'
import { it } from 'node:test'
import { hardwareModel, UNKNOWN_MODEL } from '#server/traces/hardware-model.ts'

it('hardwareModel is manufacturer and product, without what says nothing', () => {
  const model = (manufacturer?: string, product?: string) =>
    hardwareModel({
      macs: [],
      ...(manufacturer !== undefined && { manufacturer }),
      ...(product !== undefined && { product }),
    })
  assert.equal(model('LENOVO', ' 20XW\u0000 '), 'LENOVO 20XW')
  assert.equal(model('To Be Filled By O.E.M.', 'X570'), 'X570')
  assert.equal(model(), UNKNOWN_MODEL)
  assert.equal(model('Default string', ''), UNKNOWN_MODEL)
  assert.equal(model('a'.repeat(90), 'b'.repeat(90)).length, 100)
  assert.equal(model('a\nb', 'c\t\td'), 'a b c d')
})
