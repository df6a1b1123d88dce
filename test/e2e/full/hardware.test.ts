/** Firmware and network cards other than those of the other tests. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import {
  BootSite,
  diskError,
  logIn,
  type MachineOptions,
  SHUTDOWN_TIMEOUT_MS,
} from '#test/support/boot-site.ts'
import { ensureMbrBtrfsImage } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS } from '#test/support/virtual-machine.ts'

describe('a machine', { timeout: 6 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite

  before(async () => {
    site = await BootSite.start('--unknown-clients', 'vdisk:full')
    await site.importImage(await ensureMbrBtrfsImage(site.rootfs), 'full')
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
  })

  const bootAndPowerOff = async (options: MachineOptions) => {
    const machine = site.powerOn(options)
    const { shell, hostname } = await logIn(machine)
    assert.equal(await shell.read('hostnamectl --static'), hostname)
    shell.send('systemctl poweroff')
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    assert.equal((await site.boots(options.mac)).at(-1)?.end, 'poweroff')
    assert.equal(diskError(machine), undefined)
  }

  it('boots on UEFI firmware', async () => {
    await bootAndPowerOff({ name: 'uefi', mac: '52:54:00:e2:e0:11', firmware: 'uefi' })
  })

  for (const [index, card] of (['e1000', 'e1000e', 'rtl8139', 'vmxnet3'] as const).entries()) {
    it(`boots through a card ${card}`, async () => {
      await bootAndPowerOff({ name: card, mac: `52:54:00:e2:e1:1${index}`, card })
    })
  }
})
