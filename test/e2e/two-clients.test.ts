/** Two machines from one vDisk at the same time; the vDisk is a GPT disk with an xfs root. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { VDiskView } from '#server/admin/admin-api.ts'
import {
  BootSite,
  diskError,
  type LoggedIn,
  logIn,
  SHUTDOWN_TIMEOUT_MS,
} from '#test/support/boot-site.ts'
import { ensureGptXfsImage } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MACS = ['52:54:00:e2:e0:02', '52:54:00:e2:e0:03'] as const

describe('two machines of one vDisk', { timeout: 3 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let machines: readonly VirtualMachine[]
  let loggedIn: readonly LoggedIn[]

  before(async () => {
    site = await BootSite.start('--unknown-clients', 'vdisk:kiosk')
    await site.importImage(await ensureGptXfsImage(site.rootfs), 'kiosk')
    machines = MACS.map((mac, index) => site.powerOn({ name: `two-clients-${index + 1}`, mac }))
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
  })

  const onBoth = async (command: string) =>
    await Promise.all(loggedIn.map(({ shell }) => shell.read(command)))

  it('run at the same time, each as itself', async () => {
    loggedIn = await Promise.all(machines.map((machine) => logIn(machine)))
    const clients = await Promise.all(MACS.map((mac) => site.client(mac)))
    const hostnames = clients.map(({ hostname }) => hostname)
    const machineIds = clients.map(({ machineId }) => machineId)
    assert.equal(new Set(hostnames).size, 2)
    assert.equal(new Set(machineIds).size, 2)
    assert.deepEqual(await onBoth('hostnamectl --static'), hostnames)
    assert.deepEqual(await onBoth('cat /etc/machine-id'), machineIds)
    const vdisk = await site.server.json<VDiskView>('vdisk', 'show', 'kiosk')
    assert.equal(vdisk.sessionCount, 2)
  })

  it('have their root on the partition that was found', async () => {
    const [first, second] = await onBoth('findmnt -no SOURCE,FSTYPE /')
    assert.match(first ?? '', /^\/dev\/nbd0p2 +xfs$/)
    assert.equal(second, first)
  })

  it('do not see what the other writes', async () => {
    await onBoth('hostname >/root/who; sync; echo 3 >/proc/sys/vm/drop_caches')
    const hostnames = loggedIn.map(({ hostname }) => hostname)
    assert.deepEqual(await onBoth('cat /root/who'), hostnames)
  })

  it('switch off cleanly', async () => {
    for (const { shell } of loggedIn) shell.send('systemctl poweroff')
    await Promise.all(machines.map((machine) => machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)))
    for (const mac of MACS) assert.equal((await site.boots(mac)).at(-1)?.end, 'poweroff')
    for (const machine of machines) assert.equal(diskError(machine), undefined)
  })
})
