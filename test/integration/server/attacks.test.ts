import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ATTACKS } from '#test/support/attacks.ts'

describe('does not get through, and does with the guard down:', () => {
  for (const { name, tryWith } of ATTACKS) {
    it(name, async () => {
      assert.equal(await tryWith('up'), false)
      assert.equal(await tryWith('down'), true)
    })
  }
})
