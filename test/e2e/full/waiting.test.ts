/** Machines that have to wait: for the server, and for a vDisk. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { BootSite, logIn } from '#test/support/boot-site.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS } from '#test/support/virtual-machine.ts'

const LONG = { timeoutMs: BOOT_TIMEOUT_MS }

describe('a machine that has to wait', { timeout: 4 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let image: string

  before(async () => {
    site = await BootSite.start()
    image = await ensureExt4Image(site.rootfs)
    await site.importImage(image, 'lab')
    await site.importImage(image, 'spare')
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
  })

  const command = async (...args: string[]) => {
    const { status, stderr } = await site.server.run(...args)
    assert.equal(status, 0, stderr)
  }

  it('says that the server does not answer, and goes on when it does', async () => {
    const mac = '52:54:00:e2:e0:21'
    await using machine = site.powerOn({ name: 'server-lost', mac })
    await machine.console.expect(/starting the kernel/, LONG)
    await site.withoutServer(async () => await machine.console.expect(/BW-E301/, LONG))
    await machine.console.expect(/client approve/, LONG)
    const { id, hostname } = await site.client(mac)
    await command('client', 'approve', id, '--vdisk', 'spare')
    assert.equal((await logIn(machine)).hostname, hostname)
  })

  it('says that its vDisks are gone, and goes on when it is assigned another', async () => {
    const mac = '52:54:00:e2:e0:22'
    await using machine = site.powerOn({ name: 'vdisk-gone', mac })
    await machine.console.expect(/client approve/, LONG)
    const { id, hostname } = await site.client(mac)
    await command('client', 'approve', id, '--vdisk', 'lab', '--vdisk', 'spare')
    await machine.console.expect(/lab[^]*spare/, LONG)
    for (const vdisk of ['lab', 'spare']) await command('client', 'unassign', id, vdisk)
    await command('vdisk', 'rm', 'lab')
    await machine.console.expect(/BW-E308/, LONG)
    await site.importImage(image, 'new')
    await command('client', 'assign', id, 'new')
    assert.equal((await logIn(machine)).hostname, hostname)
  })
})
