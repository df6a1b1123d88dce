/**
 * Where a machine keeps what it writes, over seven boots of one machine: in memory and then on its own disk,
 * kept there, kept on the server, and nowhere with no room left; with the power cut in between.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { GiB, MiB } from '#shared/units.ts'
import { BootSite, diskError, logIn, SHUTDOWN_TIMEOUT_MS } from '#test/support/boot-site.ts'
import { runProgram, runScript } from '#test/support/child-run.ts'
import type { GuestShell } from '#test/support/guest-shell.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:41'
const DISK_BYTES: number = 2 * GiB
const MEMORY_MIB = 768

/** More than half of what is free of the machine's memory. */
const LARGE_MIB = 400

describe('a machine that writes', { timeout: 14 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let folder: TemporaryFolder
  let localDisk: string
  let machine: VirtualMachine
  let shell: GuestShell
  let hashOfStore: string

  const storeHash = async () =>
    await runScript('cd "$1/store"; find . -type f -exec sha256sum {} + | sort', [site.stateFolder])

  before(async () => {
    folder = await createTemporaryFolder()
    localDisk = join(folder.path, 'local.img')
    await runProgram('truncate', ['-s', String(DISK_BYTES), localDisk])
    site = await BootSite.start('--unknown-clients', 'vdisk:debian')
    await site.importImage(await ensureExt4Image(site.rootfs), 'debian')
    hashOfStore = await storeHash()
    machine = powerOn()
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
    await folder[Symbol.asyncDispose]()
  })

  const powerOn = () => site.powerOn({ name: 'writes', mac: MAC, memoryMiB: MEMORY_MIB, localDisk })

  const bootAgain = async () => {
    machine = powerOn()
    shell = (await logIn(machine)).shell
  }

  const cutPower = async () => {
    assert.equal(diskError(machine), undefined)
    await machine.stop()
  }

  const switchOff = async () => {
    shell.send('systemctl poweroff')
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
  }

  const set = async (...args: string[]) => {
    const { status, stderr } = await site.server.run('client', 'write-cache', MAC, ...args)
    assert.equal(status, 0, stderr)
  }

  const statusWhen = async (
    what: string,
    isSo: (status: { writeCacheBytes: number; writesWaiting: number }) => boolean,
  ) => {
    const { lastStatus } = await site.bootWhen(
      MAC,
      what,
      ({ lastStatus }) => lastStatus !== undefined && isSo(lastStatus),
      BOOT_TIMEOUT_MS,
    )
    assert.ok(lastStatus !== undefined)
    return lastStatus
  }

  it('is given a disk, and is clean at its next boot after the power was cut', async () => {
    shell = (await logIn(machine)).shell
    await shell.read('useradd -m -p "" guest; su guest -c "echo secret >~/mine; sync"')
    const formatted = await shell.read('/run/initramfs/bootwire-agent cache format /dev/vda')
    assert.match(formatted, /is a write area of 512\.0 MiB/)
    await cutPower()
    await bootAgain()
    assert.equal((await shell.run('id guest')).status, 1)
    assert.equal((await shell.run('ls /home/guest')).status, 2)
    assert.equal(await storeHash(), hashOfStore)
  })

  it('writes more than its memory holds, and reads it back from its disk', async () => {
    const { writeCachePlaces } = await statusWhen('it runs', () => true)
    assert.deepEqual(writeCachePlaces, ['ram', 'disk', 'server'])
    const wrote = `dd if=/dev/urandom of=/root/large bs=1M count=${LARGE_MIB} status=none && sync`
    await shell.read(wrote, 2 * BOOT_TIMEOUT_MS)
    const before = await shell.read('sha256sum </root/large', BOOT_TIMEOUT_MS)
    await shell.read('echo 3 >/proc/sys/vm/drop_caches')
    assert.equal(await shell.read('sha256sum </root/large', BOOT_TIMEOUT_MS), before)
    const area = await shell.read('/run/initramfs/bootwire-agent write-area show /dev/vda1')
    assert.match(area, /^debian .*MiB {2}dropped at the next boot$/m)
    const { writeCacheBytes } = await statusWhen('it is told', ({ writeCacheBytes }) => {
      return writeCacheBytes > LARGE_MIB * MiB
    })
    // What was deleted is free once the journal says so.
    await shell.read('rm /root/large; sync; fstrim /')
    await statusWhen('trimming gives room back', (it) => it.writeCacheBytes < writeCacheBytes / 4)
    await switchOff()
  })

  it('keeps on its disk what it is told to keep, through a cut of power', async () => {
    await set('--place', 'disk', '--keep')
    await bootAgain()
    assert.equal((await shell.run('test -e /root/large')).status, 1)
    await shell.read('useradd -m -p "" guest; su guest -c "echo kept on disk >~/mine"; sync')
    await cutPower()
    await bootAgain()
    assert.equal(await shell.read('cat /home/guest/mine'), 'kept on disk')
    const removed = await site.server.run('vdisk', 'rm', 'debian', '--force')
    assert.match(removed.stderr, /BW-E107.*/, 'nobody takes the base away')
    await switchOff()
    assert.equal(diskError(machine), undefined)
  })

  it('keeps on the server what it is told to keep, through a restart of that and a cut', async () => {
    const discarded = await site.server.run('client', 'discard-writes', MAC, 'debian')
    assert.equal(discarded.status, 0, discarded.stderr)
    await set('--place', 'server', '--keep')
    await bootAgain()
    assert.equal((await shell.run('id guest')).status, 1)
    await shell.read('useradd -m -p "" guest; su guest -c "echo kept on server >~/mine"; sync')
    await site.withoutServer(async () => {
      shell.send(
        'dd if=/dev/urandom of=/root/during bs=1M count=8 status=none; sync; echo syn""ced',
      )
      await sleep(3_000)
      assert.doesNotMatch(machine.console.lastLines(), /^synced/m, 'a sync waits for the server')
    })
    await machine.console.expect(/synced/, { timeoutMs: BOOT_TIMEOUT_MS })
    const hash = await shell.read('sha256sum </root/during')
    await cutPower()
    await bootAgain()
    assert.equal(await shell.read('cat /home/guest/mine'), 'kept on server')
    assert.equal(await shell.read('sha256sum </root/during'), hash)
    await switchOff()
    assert.equal(diskError(machine), undefined)
  })

  it('has writers wait when all is full, says so, and is switched off all the same', async () => {
    await site.server.run('client', 'discard-writes', MAC, 'debian')
    await set('--place', 'ram', '--drop', '--limit', '64MiB')
    await bootAgain()
    shell.send('dd if=/dev/zero of=/root/full bs=1M count=400 conv=fsync status=none & true')
    await statusWhen('writes wait', ({ writesWaiting }) => writesWaiting > 0)
    await machine.console.expect(/BW-E407/, { timeoutMs: BOOT_TIMEOUT_MS })
    assert.equal(await shell.read('cat /etc/hostname'), (await site.client(MAC)).hostname)
    assert.equal(diskError(machine), undefined)
    const began = performance.now()
    shell.send('systemctl poweroff')
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    assert.ok(performance.now() - began < SHUTDOWN_TIMEOUT_MS)
    assert.equal((await site.boots(MAC)).at(-1)?.end, 'poweroff')
  })
})
