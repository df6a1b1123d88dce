import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as v from 'valibot'
import { isPlaceholder, machineFactsSchema } from '#shared/identity/machine-facts.ts'
import { MACS_MAX } from '#shared/wire/limits.ts'

describe('isPlaceholder', () => {
  it('knows what vendors leave in place of a serial number or UUID', () => {
    for (const value of [
      '',
      ' ',
      '0',
      '0000000000',
      'None',
      'N/A',
      'Not Specified',
      'Not Applicable',
      'Default string',
      'System Serial Number',
      'To be filled by O.E.M.',
      ' to be filled BY o.e.m. ',
      '0123456789',
      '123456789',
      'FFFFFFFF',
      'ffffffff-ffff-ffff-ffff-ffffffffffff',
      '00000000-0000-0000-0000-000000000000',
      '03000200-0400-0500-0006-000700080009',
      '00020003-0004-0005-0006-000700080009',
      '12345678-1234-5678-90AB-CDDEEFAABBCC',
      'FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE',
    ]) {
      assert.ok(isPlaceholder(value), value)
    }
  })

  it('leaves alone what names one machine', () => {
    for (const value of [
      'CN-1234567',
      'PF0ABCDE',
      '1',
      '00000001',
      'f0',
      'default string 2',
      '4c4c4544-0043-3510-8052-b4c04f564433',
    ]) {
      assert.ok(!isPlaceholder(value), value)
    }
  })
})

describe('machineFactsSchema', () => {
  const accepts = (facts: unknown) => v.safeParse(machineFactsSchema, facts).success
  const mac = '52:54:00:12:34:56'

  it('takes MAC addresses in one form only, and no more than MACS_MAX', () => {
    assert.ok(accepts({ macs: [] }))
    assert.ok(accepts({ macs: Array.from({ length: MACS_MAX }, () => mac) }))
    assert.ok(!accepts({ macs: Array.from({ length: MACS_MAX + 1 }, () => mac) }))
    for (const bad of [
      '52:54:00:12:34',
      `${mac}:78`,
      '52-54-00-12-34-56',
      'AA:54:00:12:34:56',
      `${mac}\n`,
      1,
    ]) {
      assert.ok(!accepts({ macs: [bad] }), String(bad))
    }
    assert.ok(!accepts({ macs: mac }))
    assert.ok(!accepts({}))
  })

  it('bounds every fact', () => {
    assert.ok(accepts({ macs: [], product: 'x'.repeat(128) }))
    assert.ok(!accepts({ macs: [], product: 'x'.repeat(129) }))
    for (const memoryBytes of [
      -1,
      0.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      2 ** 53,
      1e300,
      '1',
    ]) {
      assert.ok(!accepts({ macs: [], memoryBytes }), String(memoryBytes))
    }
    assert.ok(accepts({ macs: [], memoryBytes: 2 ** 53 - 1 }))
  })
})
