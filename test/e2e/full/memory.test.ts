/** A small machine whose memory is wanted by everybody at once, while it writes and syncs. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { BootSite, diskError, logIn, SHUTDOWN_TIMEOUT_MS } from '#test/support/boot-site.ts'
import type { GuestShell } from '#test/support/guest-shell.ts'
import { ensureRootfs, SERVICES } from '#test/support/rootfs.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:71'
const MEMORY_MIB = 512
const WRITES_MIB = 8
const ROUNDS = 20

/** Touches most of what is free, again and again, and gives it back. */
const STRESS = 'stress-ng --vm 2 --vm-bytes 80% --vm-method flip --timeout 60s --quiet'

describe('a machine that is short of memory', { timeout: 4 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let machine: VirtualMachine
  let shell: GuestShell

  before(async () => {
    const rootfs = await ensureRootfs(() => undefined, SERVICES)
    site = await BootSite.start('--unknown-clients', 'vdisk:debian')
    await site.importImage(await ensureExt4Image(rootfs), 'debian')
    machine = site.powerOn({ name: 'memory', mac: MAC, memoryMiB: MEMORY_MIB })
    shell = (await logIn(machine)).shell
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
  })

  it('writes, syncs and reads all the while, and has every byte of it', async () => {
    const round = `dd if=/dev/urandom of=/root/data bs=1M count=${WRITES_MIB} conv=fsync status=none && sha256sum </root/data >/root/sum && sync && sha256sum </root/data | cmp - /root/sum`
    const work = `for n in $(seq ${ROUNDS}); do ${round} || exit 1; done`
    await shell.read(`(${STRESS}; echo stress $?) >/root/stress 2>&1 & true`)
    await shell.read(`(${work})`, 2 * BOOT_TIMEOUT_MS)
    const wait = 'while ! grep -q stress /root/stress; do sleep 1; done; cat /root/stress'
    // Whoever wants too much may be shot; the machine goes on.
    assert.match(await shell.read(wait, BOOT_TIMEOUT_MS), /stress \d+/)
    assert.equal(diskError(machine), undefined)
    assert.equal(await shell.read('pgrep -c -f ^@bootwire-agent'), '1')
    const boot = (await site.boots(MAC)).at(-1)
    assert.ok(!boot?.notices.some(({ message }) => /agent was restarted/.test(message)))
  })

  it('is switched off', async () => {
    shell.send('systemctl poweroff')
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    assert.equal(diskError(machine), undefined)
  })
})
