import assert from 'node:assert/strict'
import { it } from 'node:test'
import { BOOT_PHASES } from '#shared/boot/boot-phase.ts'

it('BOOT_PHASES are in the order of a boot: the timeline is drawn by it', () => {
  const order = 'firmware ipxe kernel agent network identified chosen attached first-block'
  assert.deepEqual(BOOT_PHASES, [...order.split(' '), 'root-mounted', 'login', 'shutdown'])
})
