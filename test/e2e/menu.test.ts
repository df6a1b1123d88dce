/**
 * A machine nobody knows: it waits on its screen, is approved, and chooses between two vDisks. The
 * second one brings another kernel than the machine was started with, on an MBR disk with btrfs.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { BootSite, diskError, logIn, SHUTDOWN_TIMEOUT_MS } from '#test/support/boot-site.ts'
import type { GuestShell } from '#test/support/guest-shell.ts'
import { ensureExt4Image, ensureMbrBtrfsImage } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:04'

const DOWN = '\x1b[B'
const UP = '\x1b[A'
const ENTER = '\r'

/** Long enough to press keys on a busy machine, short enough to wait for. */
const MENU_SECONDS = 20

describe('an unknown machine', { timeout: 6 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let machine: VirtualMachine
  let shell: GuestShell
  let otherRelease: string

  before(async () => {
    site = await BootSite.start('--menu-seconds', String(MENU_SECONDS))
    await site.importImage(await ensureExt4Image(site.rootfs), 'small')
    const full = await site.importImage(await ensureMbrBtrfsImage(site.rootfs), 'full')
    otherRelease = full.versions[0]?.kernel?.release ?? ''
    machine = site.powerOn({ name: 'menu', mac: MAC, memoryMiB: 1024 })
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
  })

  const show = async (pattern: RegExp) =>
    await machine.console.expect(pattern, { timeoutMs: BOOT_TIMEOUT_MS })

  it('says who it is, whom it asked and what to do, and waits', async () => {
    const { text } = await show(/client approve (?<id>\S+)/)
    assert.match(text, new RegExp(MAC))
    const client = await site.client(MAC)
    assert.equal(client.state, 'pending')
    assert.equal(client.connection, 'waiting')
  })

  it('goes on to the menu when it is approved', async () => {
    const { id } = await site.client(MAC)
    const vdisks = ['--vdisk', 'small', '--vdisk', 'full']
    const approved = await site.server.run('client', 'approve', id, ...vdisks)
    assert.equal(approved.status, 0, approved.stderr)
    await show(/small[^]*full/)
  })

  it('boots what is chosen, on the kernel of that vDisk', async () => {
    for (const key of [DOWN, UP, DOWN, ENTER]) machine.console.send(key)
    const loggedIn = await logIn(machine)
    shell = loggedIn.shell
    assert.equal(loggedIn.hostname, (await site.client(MAC)).hostname)
    assert.equal(await shell.read('uname -r'), otherRelease)
    assert.match(await shell.read('findmnt -no SOURCE,FSTYPE /'), /^\/dev\/nbd0p1\S* +btrfs$/)
    const boots = await site.boots(MAC)
    assert.deepEqual(
      boots.map(({ vdisk, end }) => [vdisk, end]),
      [['full', 'running']],
    )
  })

  it('has its choice as the default the next time, and boots it when nobody is there', async () => {
    shell.send('systemctl reboot')
    await machine.console.expect(/iPXE initialising devices/, { timeoutMs: SHUTDOWN_TIMEOUT_MS })
    await show(/small[^]*full/)
    shell = (await logIn(machine)).shell
    assert.equal(await shell.read('uname -r'), otherRelease)
    assert.equal((await site.client(MAC)).lastChoice, 'full')
    shell.send('systemctl poweroff')
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    assert.deepEqual(
      (await site.boots(MAC)).map(({ end }) => end),
      ['reboot', 'poweroff'],
    )
    assert.equal(diskError(machine), undefined)
  })
})
