/** What an administrator asks of systemd on a system whose root is ours: other targets, and another kernel. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { BootSite, diskError, logIn, SHUTDOWN_TIMEOUT_MS } from '#test/support/boot-site.ts'
import { GuestShell } from '#test/support/guest-shell.ts'
import { ensureRootfs, SERVICES } from '#test/support/rootfs.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:81'
const ENTER_TRIES = 10
const ENTER_TIMEOUT_MS = 5_000

const LONG = { timeoutMs: BOOT_TIMEOUT_MS }

const READ_ALL = 'echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr/bin /etc >/dev/null'

/** Another kernel's whole system: says that it is there, and switches off. */
const LOAD_KERNEL = `
  busybox=/run/initramfs/bin/busybox
  mkdir -p /tmp/next/bin
  cp $busybox /tmp/next/bin/
  printf '#!/bin/busybox sh\\necho "THE NEXT KERNEL"\\n/bin/busybox poweroff -f\\n' >/tmp/next/init
  chmod +x /tmp/next/init
  (cd /tmp/next && find . | $busybox cpio -o -H newc) >/tmp/next.img
  kexec -l /boot/vmlinuz-$(uname -r) --initrd=/tmp/next.img --command-line='console=ttyS0 quiet'`

describe('a system of ours', { timeout: 5 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let machine: VirtualMachine
  let shell: GuestShell

  before(async () => {
    const rootfs = await ensureRootfs(() => undefined, SERVICES)
    site = await BootSite.start('--unknown-clients', 'vdisk:debian')
    await site.importImage(await ensureExt4Image(rootfs), 'debian')
    machine = site.powerOn({ name: 'systemd', mac: MAC, memoryMiB: 768 })
    shell = (await logIn(machine)).shell
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
  })

  const assertWell = async () => {
    await shell.read(READ_ALL, BOOT_TIMEOUT_MS)
    assert.equal(diskError(machine), undefined)
    assert.equal((await shell.run('test -e /run/bootwire/stopping')).status, 1)
    const boot = (await site.boots(MAC)).at(-1)
    assert.deepEqual([boot?.end, boot?.reconnects ?? 0], ['running', 0])
  }

  /** sulogin drops what is typed before it listens. */
  const enterMaintenance = async () => {
    for (let tries = 0; tries < ENTER_TRIES; tries += 1) {
      machine.console.send('\n')
      const prompt = machine.console.expect(/# $/, { timeoutMs: ENTER_TIMEOUT_MS })
      if (await prompt.catch(() => undefined)) return await GuestShell.start(machine.console)
    }
    throw new Error('no shell for maintenance')
  }

  for (const target of ['rescue', 'emergency']) {
    it(`goes to ${target}.target and back`, async () => {
      shell.send(`systemctl ${target}`)
      await machine.console.expect(/for maintenance/, LONG)
      shell = await enterMaintenance()
      await assertWell()
      shell.send('systemctl default; exit')
      shell = (await logIn(machine)).shell
      await assertWell()
    })
  }

  it('goes to another target and back', async () => {
    await shell.read('systemctl isolate multi-user.target')
    await assertWell()
    await shell.read('systemctl isolate graphical.target')
    await assertWell()
  })

  it('has a disk that is left alone by who looks into all disks', async () => {
    const mounts = await shell.read('findmnt --real --noheadings --list --output SOURCE,TARGET')
    await shell.read('pvscan --cache; vgscan; vgchange -ay; os-prober', BOOT_TIMEOUT_MS)
    assert.equal(
      await shell.read('findmnt --real --noheadings --list --output SOURCE,TARGET'),
      mounts,
    )
    assert.equal(await shell.read('ls /sys/block | grep -c ^dm- || :'), '0')
    await assertWell()
  })

  it('starts another kernel, and has told the server that it went down clean', async () => {
    await shell.read(LOAD_KERNEL)
    shell.send('systemctl kexec')
    await machine.console.expect(/THE NEXT KERNEL/, { timeoutMs: 2 * SHUTDOWN_TIMEOUT_MS })
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    assert.equal(diskError(machine), undefined)
    await site.bootWhen(MAC, 'a clean end', ({ end }) => end === 'kexec')
  })
})
