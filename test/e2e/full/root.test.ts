/**
 * One system that lives through everything: a wrong clock, agents that are killed, a server that is killed,
 * frozen and replaced, systemd that starts anew, processes that are all stopped, and a switch-off without a
 * server. What it wrote and read before is the same in the end.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { BootSite, diskError, logIn, SHUTDOWN_TIMEOUT_MS } from '#test/support/boot-site.ts'
import type { GuestShell } from '#test/support/guest-shell.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:51'

/** PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE of linux/sched.h: what PR_SET_IO_FLUSHER sets. */
const IO_FLUSHER_FLAGS = 0x0008_0000 | 0x0010_0000

/** Longer than the server's and the agent's patience with a silent connection (20 s). */
const LONG_LOSS_MS = 45_000
const SHORT_LOSS_MS = 5_000

const KILLS = 5

/** Files of 16 MiB that are read past the page cache. */
const HASH = 'echo 3 >/proc/sys/vm/drop_caches; cat /root/data-* | sha256sum'

describe('a root that never dies', { timeout: 8 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let machine: VirtualMachine
  let shell: GuestShell
  let hash: string

  before(async () => {
    site = await BootSite.start('--unknown-clients', 'vdisk:debian')
    await site.importImage(await ensureExt4Image(site.rootfs), 'debian')
    machine = site.powerOn({ name: 'root', mac: MAC, clock: '1980-01-01T00:00:00' })
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
  })

  const agentPid = async () => await shell.read('pgrep -f ^@bootwire-agent')

  /** Nothing failed, nothing was started again, no error of disk or file system. */
  const assertUnharmed = async () => {
    assert.equal(diskError(machine, { agentWasKilled: true }), undefined)
    assert.equal(await shell.read('systemctl --failed --no-legend'), '')
    const restarts = await shell.read('systemctl show -P NRestarts "*.service" | sort -u')
    assert.equal(restarts.trim(), '0', 'no unit was restarted')
    // Among the lines that say that a server is lost.
    const lines = (await shell.read(HASH, BOOT_TIMEOUT_MS)).split('\n')
    assert.ok(lines.includes(hash), lines.join('\n'))
  }

  it('boots with a clock of 1980, which is set by the server’s before the system starts', async () => {
    shell = (await logIn(machine)).shell
    const year = new Date().getUTCFullYear()
    assert.equal(await shell.read('date -u +%Y'), String(year))
    const [boot] = await site.boots(MAC)
    assert.ok(boot?.notices.some(({ message }) => /clock was .* slow/.test(message)))
    for (const number of [1, 2, 3]) {
      const file = `/root/data-${number}`
      await shell.read(`dd if=/dev/urandom of=${file} bs=1M count=16 conv=fsync status=none`)
    }
    hash = await shell.read(HASH, BOOT_TIMEOUT_MS)
  })

  it('has threads that never wait for the memory that they free', async () => {
    const pid = await agentPid()
    const flags = await shell.read(`awk '{ print $9 }' /proc/${pid}/task/*/stat`)
    const threads = flags.trim().split(/\s+/).map(Number)
    assert.ok(threads.length > 4, `${threads.length} threads`)
    for (const each of threads) {
      assert.equal(each & IO_FLUSHER_FLAGS, IO_FLUSHER_FLAGS, each.toString(16))
    }
  })

  it('goes on when its clock is stepped by hours, back and forth', async () => {
    for (const step of ['-10 hours', '+20 hours', '-10 hours']) {
      await shell.read(`date -s "${step}" >/dev/null`)
      await shell.read('echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr/bin >/dev/null')
    }
    await assertUnharmed()
    const boot = (await site.boots(MAC)).at(-1)
    assert.deepEqual([boot?.end, boot?.reconnects ?? 0], ['running', 0])
  })

  it('goes on when systemd starts itself anew', async () => {
    await shell.read('systemctl daemon-reload; systemctl daemon-reexec')
    assert.equal(await shell.read('systemctl is-system-running'), 'running')
    assert.equal((await shell.run('test -e /run/bootwire/stopping')).status, 1)
    await assertUnharmed()
  })

  it('goes on when all processes but one shell are stopped for a while', async () => {
    // The agent must go on while everybody is stopped: nobody else could wake them.
    const others = `ps -eo pid= | while read pid; do [ "$pid" = 1 ] || [ "$pid" = $$ ] || echo $pid; done`
    await shell.read(`for pid in $(${others}); do kill -STOP $pid 2>/dev/null; done; true`)
    await sleep(SHORT_LOSS_MS)
    await shell.read(`for pid in $(${others}); do kill -CONT $pid 2>/dev/null; done; true`)
    await assertUnharmed()
  })

  it('loses nothing when its agent is killed again and again while it writes and reads', async () => {
    const work = `for n in $(seq 1 40); do dd if=/dev/urandom of=/root/work bs=64k count=16 conv=fsync status=none && sha256sum </root/work >/root/sum && echo 3 >/proc/sys/vm/drop_caches && sha256sum </root/work | cmp - /root/sum || exit 1; done`
    await shell.read(`(${work}; echo $? >/root/outcome) & true`)
    for (let kill = 0; kill < KILLS; kill += 1) {
      const before = await agentPid()
      await shell.read(`kill -9 ${before}`)
      await sleep(2_000)
      assert.notEqual(await agentPid(), before)
    }
    const outcome = 'while [ ! -e /root/outcome ]; do sleep 0.2; done; cat /root/outcome'
    assert.equal((await shell.read(outcome, BOOT_TIMEOUT_MS)).split('\n').at(-1), '0')
    await assertUnharmed()
  })

  it('waits for a server that is killed, says so, and goes on with the one that comes after it', async () => {
    await site.withoutServer(async () => {
      shell.send('echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr /lib >/dev/null; echo wai""ted')
      await machine.console.expect(/server .* lost for .*your work is kept/, {
        timeoutMs: BOOT_TIMEOUT_MS,
      })
      await sleep(LONG_LOSS_MS)
    }, 'SIGKILL')
    await machine.console.expect(/waited/, { timeoutMs: BOOT_TIMEOUT_MS })
    await assertUnharmed()
    const { reconnects } = await site.bootWhen(MAC, 'it is back', ({ end }) => end === 'running')
    assert.ok((reconnects ?? 0) >= 1, `${reconnects} reconnects`)
  })

  for (const lossMs of [SHORT_LOSS_MS, LONG_LOSS_MS]) {
    it(`waits for a server that is frozen for ${lossMs / 1000} s`, async () => {
      await site.withFrozenServer(async () => {
        shell.send('echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr /lib >/dev/null; echo tha""wed')
        await sleep(lossMs)
      })
      await machine.console.expect(/thawed/, { timeoutMs: BOOT_TIMEOUT_MS })
      await assertUnharmed()
    })
  }

  it('is switched off though there is no server any more', async () => {
    await shell.read('systemctl start bootwire-hold.service; sleep 5', BOOT_TIMEOUT_MS)
    // All of it was dropped from memory before; in use it is there, as the folders of the units are.
    const asInUse = 'systemctl list-unit-files; systemctl list-units --all; loginctl'
    await shell.read(`(${asInUse}) >/dev/null`, BOOT_TIMEOUT_MS)
    await site.withoutServer(async () => {
      shell.send('systemctl poweroff')
      await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    }, 'SIGKILL')
  })
})
