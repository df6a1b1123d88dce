/**
 * One machine over four boots: the first teaches the server what a boot reads, the second is foreseen
 * and fills the disk it was given, the third reads next to nothing from the server, the fourth is the
 * first of the next version.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { BootView, VDiskView } from '#server/admin/admin-api.ts'
import { GiB, MiB } from '#shared/units.ts'
import { BootSite, diskError, logIn, SHUTDOWN_TIMEOUT_MS } from '#test/support/boot-site.ts'
import { runProgram } from '#test/support/child-run.ts'
import type { GuestShell } from '#test/support/guest-shell.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'
import { ensureExt4Image, makeNextExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:31'
const LOCAL_DISK_BYTES: number = 2 * GiB

/** 110 MB, proven and written by an emulated processor that others keep busy. */
const HYDRATION_TIMEOUT_MS: number = 3 * BOOT_TIMEOUT_MS

/** Reads every file of the system past the page cache; one line, the same for the same content. */
const HASH_OF_SYSTEM =
  'echo 3 >/proc/sys/vm/drop_caches; find /usr -xdev -type f -print0 | sort -z | xargs -0 cat | sha256sum'

describe('a machine that boots again and again', { timeout: 12 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let folder: TemporaryFolder
  let machine: VirtualMachine
  let shell: GuestShell
  let hashOfSystem: string
  let coldBytes: number

  before(async () => {
    folder = await createTemporaryFolder()
    const localDisk = join(folder.path, 'local.img')
    await runProgram('truncate', ['-s', String(LOCAL_DISK_BYTES), localDisk])
    site = await BootSite.start('--unknown-clients', 'vdisk:debian')
    await site.importImage(await ensureExt4Image(site.rootfs), 'debian')
    machine = site.powerOn({ name: 'stream', mac: MAC, memoryMiB: 1024, localDisk })
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
    await folder[Symbol.asyncDispose]()
  })

  const command = async (...args: string[]) => {
    const { status, stdout, stderr } = await site.server.run(...args)
    assert.equal(status, 0, stderr)
    return stdout
  }

  const restart = async () => {
    shell.send('systemctl reboot')
    await machine.console.expect(/iPXE initialising devices/, { timeoutMs: SHUTDOWN_TIMEOUT_MS })
    shell = (await logIn(machine)).shell
  }

  const bootWhen = async (what: string, isSo: (boot: BootView) => boolean) =>
    await site.bootWhen(MAC, what, isSo, BOOT_TIMEOUT_MS)

  const statusAtLogin = async () => {
    const boot = await bootWhen(
      'the login is told',
      ({ phases, lastStatus }) =>
        phases.some(({ phase }) => phase === 'login') && lastStatus !== undefined,
    )
    assert.ok(boot.lastStatus !== undefined)
    return { ...boot.lastStatus, wireBytes: boot.wireBytes }
  }

  it('boots the first time, and is given a disk', async () => {
    shell = (await logIn(machine)).shell
    const { wireBytes, diskCache } = await statusAtLogin()
    coldBytes = wireBytes
    assert.equal(diskCache.state, 'none')
    hashOfSystem = await shell.read(HASH_OF_SYSTEM, 2 * BOOT_TIMEOUT_MS)
    assert.match(await shell.read('/run/initramfs/bootwire-agent cache format /dev/vda'), /vda/)
    const refused = await shell.run('/run/initramfs/bootwire-agent cache format /dev/vda 2>&1')
    assert.notEqual(refused.status, 0)
  })

  it('is foreseen the second time, and has it all on its disk when told so', async () => {
    await restart()
    const { prefetch, diskCache } = await statusAtLogin()
    const firstReads = prefetch.hits + prefetch.late + prefetch.misses
    assert.ok(prefetch.hits >= 0.9 * firstReads, JSON.stringify(prefetch))
    assert.equal(diskCache.state, 'ready')
    await command('client', 'hydrate', MAC, '--resume')
    const { lastStatus } = await site.bootWhen(
      MAC,
      'all of it is on the disk',
      (boot) => boot.lastStatus?.hydration.mode === 'complete',
      HYDRATION_TIMEOUT_MS,
    )
    assert.equal(lastStatus?.hydration.localBytes, lastStatus?.hydration.versionBytes)
  })

  it('runs on without the server', async () => {
    await site.withoutServer(async () => {
      // Among the lines that say that the server is lost.
      const lines = (await shell.read(HASH_OF_SYSTEM, 2 * BOOT_TIMEOUT_MS)).split('\n')
      assert.ok(lines.includes(hashOfSystem), lines.join('\n'))
    })
    await bootWhen('the client is back', ({ end }) => end === 'running')
    assert.equal(diskError(machine), undefined)
  })

  it('asks the server for next to nothing the third time', async () => {
    await restart()
    const { wireBytes, objectsCorrupt } = await statusAtLogin()
    assert.ok(wireBytes < coldBytes / 20, `${wireBytes} of ${coldBytes}`)
    assert.equal(objectsCorrupt, 0)
  })

  it('keeps its version while the next one is imported and promoted', async () => {
    const image = join(folder.path, 'next.img')
    await makeNextExt4Image(site.rootfs, image)
    await command('vdisk', 'import', image, '--name', 'debian', '--promote')
    assert.equal((await shell.run('test -e /usr/bin/bash-of-version-2')).status, 1)
    assert.equal(await shell.read(HASH_OF_SYSTEM, 2 * BOOT_TIMEOUT_MS), hashOfSystem)
    const removed = await site.server.run('vdisk', 'rm', 'debian@1')
    assert.match(removed.stderr, /BW-E107/)
  })

  it('gets the next version, and of it what is new', async () => {
    await restart()
    const { wireBytes } = await statusAtLogin()
    assert.equal((await shell.run('test -e /usr/bin/bash-of-version-2')).status, 0)
    assert.ok(wireBytes < coldBytes / 5, `${wireBytes} of ${coldBytes}`)
    const vdisk = await site.server.json<VDiskView>('vdisk', 'show', 'debian')
    assert.equal((await site.boots(MAC)).at(-1)?.versionId, vdisk.productionVersionId)
    assert.equal(diskError(machine), undefined)
    assert.match(await command('check', '--read-data'), /no damage/i)
    shell.send('systemctl poweroff')
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    assert.ok(coldBytes > MiB)
  })
})
