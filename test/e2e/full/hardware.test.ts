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

describe('a machine', { timeout: 4 * BOOT_TIMEOUT_MS }, () => {
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

  it('boots through an e1000 card', async () => {
    await bootAndPowerOff({ name: 'e1000', mac: '52:54:00:e2:e0:12', card: 'e1000' })
  })
})
