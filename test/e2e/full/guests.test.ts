/** Systems other than the one all tests boot: releases, file systems, volumes, a desktop. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { BootSite, diskError, logIn, SHUTDOWN_TIMEOUT_MS } from '#test/support/boot-site.ts'
import { eventually } from '#test/support/eventually.ts'
import { DEBIAN_13, UBUNTU_24 } from '#test/support/releases.ts'
import {
  DESKTOP,
  DESKTOP_BYTES,
  DESKTOP_IS_UP,
  ensureRootfs,
  type RootfsRecipe,
} from '#test/support/rootfs.ts'
import {
  ensureExt4Image,
  ensureGptBootXfsImage,
  ensureGptBtrfsImage,
  ensureLvmImage,
} from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, LOG_FOLDER } from '#test/support/virtual-machine.ts'

/** An emulated processor draws a desktop in minutes. */
const DESKTOP_TIMEOUT_MS = 8 * 60_000

const DESKTOP_MEMORY_MIB = 2048

const MAC = '52:54:00:e6:00:01'

const install = async (label: string, recipe: Partial<RootfsRecipe>) =>
  await ensureRootfs(() => undefined, { label, packages: [], kernel: 'virtual', ...recipe })

describe('a guest', { timeout: 8 * BOOT_TIMEOUT_MS + 2 * DESKTOP_TIMEOUT_MS }, () => {
  const powerOn = async (site: BootSite, name: string, image: string, memoryMiB?: number) => {
    await site.importImage(image, name)
    return site.powerOn({ name, mac: MAC, ...(memoryMiB !== undefined && { memoryMiB }) })
  }

  /** Boots to a login, has `check` look around, and switches off. */
  const boots = async (
    name: string,
    image: string,
    check: (shell: Awaited<ReturnType<typeof logIn>>['shell']) => Promise<void>,
  ) => {
    await using site = await BootSite.start('--unknown-clients', `vdisk:${name}`)
    const machine = await powerOn(site, name, image)
    const { shell } = await logIn(machine)
    assert.equal(await shell.read('systemctl is-system-running --wait'), 'running')
    await check(shell)
    shell.send('systemctl poweroff')
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    assert.equal((await site.boots(MAC)).at(-1)?.end, 'poweroff')
    assert.equal(diskError(machine), undefined)
  }

  it('has its root, /usr and home on logical volumes, and /boot on a partition', async () => {
    const rootfs = await install('lvm', { packages: ['lvm2'] })
    await boots('lvm', await ensureLvmImage(rootfs), async (shell) => {
      const source = async (folder: string) =>
        await shell.read(`findmnt -rno SOURCE,FSTYPE ${folder}`)
      assert.equal(await source('/'), '/dev/mapper/my--group-root ext4')
      assert.equal(await source('/usr'), '/dev/mapper/my--group-usr xfs')
      assert.equal(await source('/home'), '/dev/mapper/my--group-home ext4')
      assert.match(await source('/boot'), /^\/dev\/nbd0p1 ext4$/)
      const volumes = await shell.read('lvs --noheadings -o lv_name,lv_active | tr -s " \\n" ","')
      assert.equal(volumes, ',home,active,root,active,usr,active,')
      const links = 'readlink -f /dev/my-group/root /dev/mapper/my--group-root | uniq | wc -l'
      assert.equal(await shell.read(links), '1')
      await shell.run('echo kept >/usr/share/kept && echo kept >/home/kept && sync')
    })
  })

  it('is Debian 13 on xfs, with /boot on a partition', async () => {
    const rootfs = await install('xfs', { release: DEBIAN_13 })
    await boots('debian-13', await ensureGptBootXfsImage(rootfs), async (shell) => {
      assert.equal(await shell.read('. /etc/os-release; echo $VERSION_ID'), '13')
      assert.equal(await shell.read('findmnt -no FSTYPE /'), 'xfs')
    })
  })

  it('is Ubuntu 24.04 on btrfs', async () => {
    const rootfs = await install('btrfs', { release: UBUNTU_24 })
    await boots('ubuntu', await ensureGptBtrfsImage(rootfs), async (shell) => {
      assert.equal(await shell.read('. /etc/os-release; echo $ID-$VERSION_ID'), 'ubuntu-24.04')
      assert.equal(await shell.read('findmnt -rno FSTYPE,FSROOT /'), 'btrfs /@')
    })
  })

  it('is a desktop, which is drawn', async () => {
    const rootfs = await ensureRootfs(() => undefined, DESKTOP)
    await using site = await BootSite.start('--unknown-clients', 'vdisk:desktop')
    const image = await ensureExt4Image(rootfs, DESKTOP_BYTES)
    const machine = await powerOn(site, 'desktop', image, DESKTOP_MEMORY_MIB)
    await machine.console.expect(DESKTOP_IS_UP, { timeoutMs: DESKTOP_TIMEOUT_MS })
    const path = join(LOG_FOLDER, 'desktop.ppm')
    let colors = 0
    await eventually(
      'wallpaper, panel and icons',
      async () => {
        await machine.screenshot(path)
        colors = colorsOf(await readFile(path))
        return colors >= DESKTOP_COLORS_MIN
      },
      DESKTOP_TIMEOUT_MS,
    ).catch((error: unknown) => {
      throw new Error(`the screen shows ${colors} colors, see ${path}`, { cause: error })
    })
    assert.equal(diskError(machine), undefined)
  })
})

/** A text console has 16, a login screen some dozens; a wallpaper thousands. */
const DESKTOP_COLORS_MIN = 500

/** Counts the colors of a picture in binary PPM. */
function colorsOf(picture: Buffer): number {
  const header = /^P6\s+\d+\s+\d+\s+\d+\s/.exec(picture.toString('latin1', 0, 64))
  const colors = new Set<number>()
  for (let at = header?.[0].length ?? 0; at + 3 <= picture.length; at += 3) {
    colors.add(picture.readUIntBE(at, 3))
  }
  return colors.size
}
