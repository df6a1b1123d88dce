import assert from 'node:assert/strict'
import { it } from 'node:test'
import { BOOT_PHASES, isBootPhase } from '#shared/boot/boot-phase.ts'

it('isBootPhase takes the phases and nothing else', () => {
  for (const phase of BOOT_PHASES) assert.ok(isBootPhase(phase))
  for (const value of ['', 'Login', 'toString', 'length', 0, null, undefined, ['login']]) {
    assert.ok(!isBootPhase(value))
  }
})

it('BOOT_PHASES are in the order of a boot: the timeline is drawn by it', () => {
  const order = 'firmware ipxe kernel agent network identified chosen attached first-block'
  assert.deepEqual(BOOT_PHASES, [...order.split(' '), 'root-mounted', 'login', 'shutdown'])
})
