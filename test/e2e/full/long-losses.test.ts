/**
 * A machine on a network whose DHCP server gives leases of a minute, which are renewed, until that server is
 * gone; and whose server is gone for ten minutes. Nothing fails meanwhile, and nothing is started again.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { BootSite, diskError, logIn } from '#test/support/boot-site.ts'
import { eventually } from '#test/support/eventually.ts'
import type { GuestShell } from '#test/support/guest-shell.ts'
import { LAN_HOST_ADDRESS, Lan } from '#test/support/lan.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:71'
const LEASE_SECONDS = 60
const RENEWALS_TIMEOUT_MS = 2.5 * LEASE_SECONDS * 1000
const LOSS_MS = 600_000

const READ_ALL = 'echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr/bin /etc >/dev/null'

describe('what is gone for long', { timeout: LOSS_MS + 5 * BOOT_TIMEOUT_MS }, () => {
  let lan: Lan
  let site: BootSite
  let machine: VirtualMachine
  let shell: GuestShell
  let address: string

  before(async () => {
    lan = await Lan.create()
    const options = ['--address', LAN_HOST_ADDRESS, '--unknown-clients', 'vdisk:debian']
    site = await BootSite.start(...options)
    await site.importImage(await ensureExt4Image(site.rootfs), 'debian')
    await startDhcp()
    machine = site.powerOn({ name: 'long-losses', mac: MAC, port: await lan.port() })
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
    await lan[Symbol.asyncDispose]()
  })

  const startDhcp = async () => {
    const bootUrl = `http://${LAN_HOST_ADDRESS}:${site.server.httpPort}/boot.ipxe`
    await lan.startDhcp(bootUrl, LEASE_SECONDS)
  }
  const addresses = async () =>
    await shell.read("ip -4 -o address show scope global | awk '{ print $4 }'")
  const notices = async () =>
    ((await site.boots(MAC)).at(-1)?.notices ?? []).map(({ message }) => message)
  const renewals = async (count: number) => {
    const wanted = lan.leasesGiven + count
    await eventually('leases are renewed', () => lan.leasesGiven >= wanted, RENEWALS_TIMEOUT_MS)
  }

  const assertWell = async () => {
    await shell.read(READ_ALL, BOOT_TIMEOUT_MS)
    assert.equal((await addresses()).split('\n').at(-1), address)
    assert.equal(diskError(machine), undefined)
    assert.equal((await shell.read('systemctl --failed --no-legend')).split('\n').at(-1), '')
    const restarts = await shell.read('systemctl show -P NRestarts "*.service" | sort -u')
    assert.equal(restarts.trim().split('\n').at(-1), '0', 'no unit was restarted')
  }

  it('has its lease renewed by the agent', async () => {
    shell = (await logIn(machine)).shell
    address = await addresses()
    assert.match(address, /^10\.79\.0\.1\d\d\/24$/)
    await renewals(3)
    await assertWell()
  })

  it('keeps its address when the DHCP server is gone, and says so', async () => {
    await lan.stopDhcp()
    await eventually(
      'the loss is told',
      async () =>
        (await notices()).some((text) =>
          /has not renewed the lease in time; .* is kept/.test(text),
        ),
      RENEWALS_TIMEOUT_MS,
    )
    await assertWell()
    await startDhcp()
    await renewals(1)
    await eventually('the return is told', async () =>
      (await notices()).some((text) => /renews the lease of .* again/.test(text)),
    )
  })

  it('waits for ten minutes for a server, with all that was opened and read before', async () => {
    await site.withoutServer(async () => {
      shell.send('echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr /lib >/dev/null; echo wai""ted')
      await machine.console.expect(/server .* lost for .*your work is kept/, {
        timeoutMs: BOOT_TIMEOUT_MS,
      })
      await sleep(LOSS_MS)
    }, 'SIGKILL')
    await machine.console.expect(/waited/, { timeoutMs: BOOT_TIMEOUT_MS })
    await assertWell()
  })
})
