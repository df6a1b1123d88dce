/**
 * Systems that bring up their network by themselves, each in its own way and none prepared for us: they leave
 * the card alone that the root is read over, when they start, when they are started again, with a firewall
 * that lets nothing in, and when the system goes down. What is set up in one boot is kept for the next.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { BootSite, diskError, logIn, SHUTDOWN_TIMEOUT_MS } from '#test/support/boot-site.ts'
import type { GuestShell } from '#test/support/guest-shell.ts'
import { ensureRootfs, SERVICES } from '#test/support/rootfs.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS, type VirtualMachine } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:61'

/** Long enough for a service to notice, short enough for TCP to go on. */
const CABLE_OUT_MS = 6_000

const READ_ALL = 'echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr/bin /etc >/dev/null'

const UNITS = 'NetworkManager.service systemd-networkd.service networking.service'

interface Manager {
  readonly name: string
  readonly service: string
  /** What an administrator would do to have it manage the card `$card`. */
  readonly setUp: string
}

const MANAGERS: readonly Manager[] = [
  {
    name: 'NetworkManager',
    service: 'NetworkManager.service',
    setUp: 'systemctl enable NetworkManager.service',
  },
  {
    name: 'netplan and systemd-networkd',
    service: 'systemd-networkd.service',
    setUp: `mkdir -p /etc/netplan; printf 'network:\\n  version: 2\\n  renderer: networkd\\n  ethernets:\\n    all:\\n      match: {name: "e*"}\\n      dhcp4: true\\n' >/etc/netplan/01.yaml; chmod 600 /etc/netplan/01.yaml; systemctl enable systemd-networkd.service`,
  },
  {
    name: 'ifupdown with dhclient',
    service: 'networking.service',
    setUp: `printf 'auto lo\\niface lo inet loopback\\nauto %s\\niface %s inet dhcp\\n' $card $card >/etc/network/interfaces; systemctl enable networking.service`,
  },
]

/** Nothing comes in and nothing goes out, not even of a connection that is there. */
const DROP_ALL =
  "printf 'table inet shut {\\n chain input {\\n type filter hook input priority 0; policy drop;\\n }\\n chain output {\\n type filter hook output priority 0; policy drop;\\n }\\n}\\n' | nft -f -"

describe('a system with a network service of its own', { timeout: 8 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let machine: VirtualMachine
  let shell: GuestShell
  let address: string

  before(async () => {
    const rootfs = await ensureRootfs(() => undefined, SERVICES)
    site = await BootSite.start('--unknown-clients', 'vdisk:debian')
    await site.importImage(await ensureExt4Image(rootfs), 'debian')
    const kept = ['vdisk', 'write-cache', 'debian', '--place', 'server', '--keep']
    const { status, stderr } = await site.server.run(...kept)
    assert.equal(status, 0, stderr)
    machine = site.powerOn({ name: 'network', mac: MAC, memoryMiB: 768 })
    shell = (await logIn(machine)).shell
    address = await addresses()
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
  })

  const addresses = async () =>
    await shell.read("ip -4 -o address show scope global | awk '{ print $4 }'")

  const assertWell = async (what: string) => {
    await shell.read(READ_ALL, BOOT_TIMEOUT_MS)
    assert.equal(await addresses(), address, `${what}: the address stays`)
    assert.equal(diskError(machine), undefined, what)
    assert.equal(await shell.read('systemctl --failed --no-legend'), '', what)
    const boot = (await site.boots(MAC)).at(-1)
    assert.deepEqual([boot?.end, boot?.reconnects ?? 0], ['running', 0], what)
  }

  for (const { name, service, setUp } of MANAGERS) {
    it(`runs with ${name}`, async () => {
      const card = `card=$(ip -o link | sed -n 's/^[0-9]*: \\(e[^:@]*\\):.*/\\1/p' | head -n 1)`
      await shell.read(`${card}; systemctl disable ${UNITS} 2>&1; ${setUp}; sync`)
      shell.send('systemctl reboot')
      await machine.console.expect(/iPXE initialising devices/, { timeoutMs: SHUTDOWN_TIMEOUT_MS })
      shell = (await logIn(machine)).shell
      await shell.read('systemctl is-system-running --wait || :', BOOT_TIMEOUT_MS)
      await assertWell('after the boot')
      await shell.read(`systemctl restart ${service}`)
      await assertWell('after a restart of the service')
      await shell.read(DROP_ALL)
      await assertWell('with a firewall')
      await machine.setCable(false)
      await sleep(CABLE_OUT_MS)
      await machine.setCable(true)
      await assertWell('after the cable was out')
    })
  }

  it('is switched off', async () => {
    shell.send('systemctl poweroff')
    await machine.waitForPowerOff(SHUTDOWN_TIMEOUT_MS)
    assert.deepEqual(
      new Set((await site.boots(MAC)).map(({ end }) => end)),
      new Set(['reboot', 'poweroff']),
    )
  })
})
