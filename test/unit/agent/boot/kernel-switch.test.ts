import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { cmdlineFor } from '#agent/boot/kernel-switch.ts'
import { type BootParameters, parseBootParameters } from '#shared/boot/kernel-cmdline.ts'

const PARAMETERS: BootParameters = {
  servers: [
    { host: '10.0.0.1', port: 8443 },
    { host: 'fe80::1', port: 8443 },
  ],
  pin: 'p'.repeat(43),
  kernelId: 'ab'.repeat(32),
  bootId: 'cd'.repeat(16),
  vdisk: 'debian',
  ramCacheBytes: 1_000_000,
}

describe('cmdlineFor', () => {
  it('keeps what the kernel and the network script were told, in its order', () => {
    const kept = 'console=ttyS0 quiet ip=10.0.0.2::10.0.0.1:255.0.0.0 BOOTIF=01-52-54 -- single'
    assert.ok(cmdlineFor(kept, PARAMETERS).startsWith(`${kept} bootwire.servers=`))
  })

  it('leaves out what boot loaders say of themselves, and parameters of ours from before', () => {
    const before =
      'BOOT_IMAGE=/vmlinuz initrd=agent.img initrd=modules.img bootwire.servers=old:1 bootwire.vdisk=old bootwire.new=x quiet'
    const words = cmdlineFor(before, PARAMETERS).split(' ')
    assert.equal(words[0], 'quiet')
    assert.equal(words.filter((word) => /^(initrd|BOOT_IMAGE)=|old|new/.test(word)).length, 0)
  })

  it('says what the agent reads under the next kernel', () => {
    const cmdline = cmdlineFor('  quiet \n', PARAMETERS)
    assert.deepEqual(parseBootParameters(cmdline), PARAMETERS)
    assert.deepEqual(parseBootParameters(cmdlineFor(cmdline, PARAMETERS)), PARAMETERS)
    assert.doesNotMatch(cmdline, /\n|^ /)
  })
})
