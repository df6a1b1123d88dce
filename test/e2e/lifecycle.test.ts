/** One machine from power-on through login, a restart, and off again. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { MiB } from '#shared/units.ts'
import {
  BootSite,
  COMPLETE_BOOT,
  diskError,
  logIn,
  SHUTDOWN_TIMEOUT_MS,
} from '#test/support/boot-site.ts'
import { runScript } from '#test/support/child-run.ts'
import type { GuestShell } from '#test/support/guest-shell.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:01'

/** A client gets by with this much. */
const MEMORY_MIB = 512

/** What the agent may take of it at the login prompt, with its RAM tier of 64 MiB. */
const AGENT_RSS_BYTES_MAX: number = 150 * MiB

describe('a machine without a disk', { timeout: 4 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let machine: VirtualMachine
  let shell: GuestShell
  let hashBefore: string

  before(async () => {
    site = await BootSite.start('--unknown-clients', 'vdisk:debian')
    await site.importImage(await ensureExt4Image(site.rootfs), 'debian')
    hashBefore = await hashOfStore()
    machine = site.powerOn({ name: 'lifecycle', mac: MAC, memoryMiB: MEMORY_MIB })
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
  })

  const hashOfStore = async () =>
    await runScript('cd "$1/store"; find . -type f -exec sha256sum {} + | sort', [site.stateFolder])

  it('boots by iPXE to a login prompt, as the client the server knows', async () => {
    const loggedIn = await logIn(machine)
    shell = loggedIn.shell
    const client = await site.client(MAC)
    assert.equal(loggedIn.hostname, client.hostname)
    assert.equal(await shell.read('hostnamectl hostname'), client.hostname)
    assert.equal(await shell.read('hostnamectl --static'), client.hostname)
    assert.equal(await shell.read('cat /etc/machine-id'), client.machineId)
    const shown = await shell.read('hostnamectl status')
    assert.match(shown, new RegExp(`Machine ID: ${client.machineId}`))
    assert.equal(client.connection, 'streaming')
  })

  it('runs on its vDisk, with nothing failed', async () => {
    assert.match(await shell.read('findmnt -no SOURCE,FSTYPE /'), /^\/dev\/nbd0 +ext4$/)
    assert.equal(await shell.read('systemctl --failed --no-legend'), '')
    assert.equal(await shell.read('systemctl is-system-running --wait'), 'running')
    const watchdogs = 'systemctl show -P WatchdogUSec systemd-journald systemd-logind systemd-udevd'
    assert.doesNotMatch(await shell.read(watchdogs), /[1-9]/, 'none fires while the disk waits')
    const sleep = 'systemctl show -P LoadState suspend.target hibernate.target sleep.target'
    assert.match(await shell.read(sleep), /^(masked\s*){3}$/)
    const { status } = await shell.run('udevadm info -q property /dev/nbd0 | grep UDISKS_IGNORE=1')
    assert.equal(status, 0, 'no desktop offers the root')
    assert.equal(
      await shell.read('dmesg --level=emerg,alert,crit,err | grep -iE "nbd|ext4|I/O" || :'),
      '',
    )
  })

  it('tells the server the whole timeline, in order', async () => {
    const boot = await site.bootWhen(MAC, 'the timeline is complete', ({ phases }) =>
      COMPLETE_BOOT.every((wanted) => phases.some(({ phase }) => phase === wanted)),
    )
    assert.equal(boot.vdisk, 'debian')
    const times = boot.phases.map(({ atMs }) => atMs)
    assert.deepEqual(
      times,
      times.toSorted((a, b) => a - b),
    )
    const steps = boot.phases.map(({ phase }) => phase).filter((it) => COMPLETE_BOOT.includes(it))
    assert.deepEqual(
      steps.filter((step) => step !== 'first-block' && step !== 'attached'),
      COMPLETE_BOOT.filter((step) => step !== 'first-block' && step !== 'attached'),
    )
  })

  it('leaves the system its memory', async () => {
    const boot = await site.bootWhen(
      MAC,
      'the agent has told its memory',
      (it) => it.lastStatus !== undefined,
    )
    const rssBytes = boot.lastStatus?.rssBytes ?? 0
    assert.ok(rssBytes > 0 && rssBytes <= AGENT_RSS_BYTES_MAX, `${rssBytes / MiB} MiB`)
    const status = await shell.read('cat /proc/$(pgrep -f ^@bootwire-agent)/status')
    const [, kilobytes] = /VmRSS:\s+(\d+) kB/.exec(status) ?? []
    assert.ok(Number(kilobytes) * 1024 <= AGENT_RSS_BYTES_MAX, `${kilobytes} kB`)
  })

  it('takes writes, and is clean again after a restart', async () => {
    await shell.read('dd if=/dev/urandom of=/root/mine bs=1M count=16 conv=fsync status=none')
    const before = await shell.read('sha256sum </root/mine')
    await shell.read('echo 3 >/proc/sys/vm/drop_caches')
    assert.equal(await shell.read('sha256sum </root/mine'), before)
    shell.send('systemctl reboot')
    await machine.console.expect(/iPXE initialising devices/, { timeoutMs: SHUTDOWN_TIMEOUT_MS })
    const [first] = await site.boots(MAC)
    assert.equal(first?.end, 'reboot')
    shell = (await logIn(machine)).shell
    assert.equal((await shell.run('test -e /root/mine')).status, 1)
    assert.equal(await shell.read('cat /etc/machine-id'), (await site.client(MAC)).machineId)
    assert.equal(await hashOfStore(), hashBefore)
  })

  it('has its second boot foreseen: what it reads is there before it asks', async () => {
    const { lastStatus } = await site.bootWhen(
      MAC,
      'the login is told',
      ({ phases, lastStatus }) =>
        phases.some(({ phase }) => phase === 'login') && lastStatus !== undefined,
    )
    assert.ok(lastStatus !== undefined)
    const { hits, late, misses, pushedBytes } = lastStatus.prefetch
    assert.ok(pushedBytes > MiB, `${pushedBytes} bytes were pushed`)
    assert.ok(hits >= 0.9 * (hits + late + misses), JSON.stringify(lastStatus.prefetch))
  })

  it('switches off cleanly, and the server knows', async () => {
    shell.send('systemctl poweroff')
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    const ends = (await site.boots(MAC)).map(({ end }) => end)
    assert.deepEqual(ends, ['reboot', 'poweroff'])
    assert.equal((await site.client(MAC)).connection, 'off')
    assert.equal(diskError(machine), undefined)
  })
})
