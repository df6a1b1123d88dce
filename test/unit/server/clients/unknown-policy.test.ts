import assert from 'node:assert/strict'
import { it } from 'node:test'
import {
  admissionOf,
  formatUnknownPolicy,
  parseUnknownPolicy,
} from '#server/clients/unknown-policy.ts'

it('parseUnknownPolicy() reads what formatUnknownPolicy() writes', () => {
  for (const text of ['refuse', 'approve', 'vdisk:debian-12.7']) {
    assert.equal(formatUnknownPolicy(parseUnknownPolicy(text)), text)
  }
})

it('parseUnknownPolicy() refuses anything else and says what is expected', () => {
  for (const text of ['', 'Approve', 'vdisk', 'vdisk:', 'vdisk:a b', 'vdisk:../x', 'allow']) {
    assert.throws(
      () => parseUnknownPolicy(text),
      { code: 'INVALID_ARGUMENT', message: /expected "refuse", "approve" or "vdisk:NAME"/ },
      text,
    )
  }
})

it('admissionOf() lets nobody in unless a default vDisk is set', () => {
  assert.deepEqual(admissionOf({ kind: 'refuse' }), { state: 'refused', assignments: [] })
  assert.deepEqual(admissionOf({ kind: 'approve' }), { state: 'pending', assignments: [] })
  assert.deepEqual(admissionOf({ kind: 'vdisk', vdisk: 'kiosk' }), {
    state: 'approved',
    assignments: ['kiosk'],
  })
})
