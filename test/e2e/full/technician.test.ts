/**
 * The technician's screen of a real machine, while each link of the chain is broken in turn and mended again.
 * One boot, started by QEMU itself: the agent has to find its way alone.
 */
import assert from 'node:assert/strict'
import { constants, copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { renderBootParameters } from '#shared/boot/kernel-cmdline.ts'
import { type BootSite, diskError, logIn } from '#test/support/boot-site.ts'
import { directBoot, kernelIdOf } from '#test/support/direct-boot.ts'
import { LAN_HOST_ADDRESS } from '#test/support/lan.ts'
import { LanSite } from '#test/support/lan-site.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import {
  BOOT_TIMEOUT_MS,
  type LanPort,
  type VirtualMachine,
} from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:cc:00:01'
/** A round of all probes, the longest of which gives up after ten seconds, and the pause before it. */
const ROUND_MS = 60_000
const LINKS = 'link DHCP gateway DNS server TLS clock identity assignment stream'.split(' ')

describe('the technician’s screen', { timeout: 6 * BOOT_TIMEOUT_MS }, () => {
  const opened = new AsyncDisposableStack()
  let temporary: TemporaryFolder
  let network: LanSite
  let site: BootSite
  let port: LanPort
  let kernelId: string
  let kernel: { readonly path: string; readonly initrd: string }

  before(async () => {
    temporary = opened.use(await createTemporaryFolder())
    network = opened.use(await LanSite.start([], [`dns ${LAN_HOST_ADDRESS}`]))
    site = network.site
    port = network.port
    await startDns()
    kernelId = await kernelIdOf(site, 'lab')
    kernel = await directBoot(site, join(temporary.path, 'initrd.img'), kernelId)
  })
  after(async () => await opened.disposeAsync())

  const startDns = async () => {
    await network.host.runScript(
      `dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --listen-address="$1" \
        --address=/boot.example/"$1" --pid-file="$2"`,
      [LAN_HOST_ADDRESS, join(temporary.path, 'dns.pid')],
    )
  }
  const stopDns = async () => {
    await network.host.runScript('kill "$(cat "$1")"', [join(temporary.path, 'dns.pid')])
  }

  const admin = async (...command: string[]) => {
    const { status, stderr } = await site.server.run(...command)
    assert.equal(status, 0, stderr)
  }

  const powerOn = (
    name: string,
    parameters: string,
    {
      pin = site.server.pin,
      localDisk,
    }: { readonly pin?: string; readonly localDisk?: string } = {},
  ): VirtualMachine => {
    const servers = [{ host: 'boot.example', port: site.server.tlsPort }]
    const own = renderBootParameters({ servers, pin, kernelId })
    const cmdline = `rootfstype=ramfs systemd.swap=0 console=tty0 console=ttyS0,115200 quiet ${own} ${parameters}`
    return site.powerOn({
      name,
      mac: MAC,
      port,
      bootsBy: 'nothing',
      ...(localDisk !== undefined && { localDisk }),
      kernel: { ...kernel, cmdline },
    })
  }
  /** Waits until this link is the first that is broken, with these words. */
  const untilBroken = async (machine: VirtualMachine, link: string, words: RegExp) => {
    machine.console.send('r')
    const lines = LINKS.slice(0, LINKS.indexOf(link))
      .map((name) => String.raw`(?:ok|note|-) +${name} .*\n`)
      .join(' *')
    const pattern = new RegExp(
      String.raw`${lines} *FAIL +${link} +BW-E\d+ [^]*?${link}: BW-E\d+ ${words.source}`,
    )
    await machine.console.expect(pattern, { timeoutMs: ROUND_MS })
  }
  const untilWell = async (machine: VirtualMachine) => {
    machine.console.send('r')
    await machine.console.expect(/Every link works/, { timeoutMs: ROUND_MS })
  }

  it('names the link that is broken, each in turn, and all are well in the end', async () => {
    await using machine = powerOn('technician', 'bootwire.check')
    await machine.console.expect(/The way to the server/, { timeoutMs: BOOT_TIMEOUT_MS })
    await untilBroken(machine, 'identity', /This machine waits to be approved/)
    await admin('client', 'approve', MAC)
    await untilBroken(machine, 'assignment', /There is no vDisk for this machine/)
    await admin('client', 'assign', MAC, 'lab')
    await untilWell(machine)

    await machine.setCable(false)
    await untilBroken(machine, 'link', /Cannot use eth0: it has no link/)
    await machine.setCable(true)
    await untilWell(machine)

    await stopDns()
    await untilBroken(machine, 'DNS', /The DNS server 10\.79\.0\.1 does not answer/)
    await startDns()
    await untilWell(machine)

    await site.withoutServer(async () => {
      await untilBroken(machine, 'server', /Cannot reach boot\.example:\d+ \(ECONNREFUSED\)/)
    })
    await untilWell(machine)

    await site.withFrozenServer(async () => {
      await untilBroken(machine, 'TLS', /boot\.example:\d+ takes connections, and does not answer/)
    })
    await untilWell(machine)

    // Full packets are lost. The server's are cut here, not by its card.
    await network.host.runScript('ip link set dev bwlan0 gso_max_segs 1')
    await network.lan.runScript('ip link set host mtu 1400')
    try {
      await untilBroken(machine, 'TLS', /boot\.example:\d+ takes connections, and does not answer/)
    } finally {
      await network.lan.runScript('ip link set host mtu 1500')
    }
    await untilWell(machine)

    // Slower than anybody would boot.
    await network.lan.runScript(
      'tc qdisc add dev "$1" root tbf rate 200kbit burst 5kb latency 3s',
      [port.tap],
    )
    await untilBroken(machine, 'stream', /The server sent [^]*? and no more within/)
    await network.lan.runScript('tc qdisc del dev "$1" root', [port.tap])
    await untilWell(machine)

    machine.console.send('c')
    const { shell } = await logIn(machine)
    assert.equal(await shell.read('cat /proc/sys/kernel/ostype'), 'Linux')
    assert.equal(diskError(machine), undefined)
  })

  it('names the gateway, a wrong clock, another server’s key, and goes on when the boot does', async () => {
    const gone = 'ip=10.79.0.60::10.79.0.200:255.255.255.0:::none:10.79.0.1'
    const servers = [{ host: LAN_HOST_ADDRESS, port: site.server.tlsPort }]
    const own = renderBootParameters({ servers, pin: site.server.pin, kernelId })
    const cmdline = `rootfstype=ramfs systemd.swap=0 console=ttyS0,115200 quiet ${own} bootwire.check ${gone}`
    await using machine = site.powerOn({
      name: 'technician-gateway',
      mac: MAC,
      port,
      bootsBy: 'nothing',
      kernel: { ...kernel, cmdline },
      clock: '2001-02-03T04:05:06',
    })
    await machine.console.expect(/The way to the server/, { timeoutMs: BOOT_TIMEOUT_MS })
    await untilBroken(machine, 'gateway', /The gateway 10\.79\.0\.200 does not answer/)
    await machine.console.expect(/FAIL +clock +BW-E421 The clock of this machine is .* slow/, {
      timeoutMs: ROUND_MS,
    })
    machine.console.send('c')
    await logIn(machine)
  })

  it('names a network without DHCP, as behind a wrong VLAN', async () => {
    await using machine = powerOn('technician-vlan', 'bootwire.check vlan=99')
    await machine.console.expect(/The way to the server/, { timeoutMs: BOOT_TIMEOUT_MS })
    await untilBroken(machine, 'DHCP', /Cannot get an address on eth0\.99 by DHCP/)
  })

  it('names a server with another key than the one that is trusted', async () => {
    await using machine = powerOn('technician-key', 'bootwire.check', { pin: 'x'.repeat(43) })
    await machine.console.expect(/The way to the server/, { timeoutMs: BOOT_TIMEOUT_MS })
    await untilBroken(machine, 'TLS', /Cannot trust boot\.example:\d+: its key is/)
  })

  it('sends the disk of a machine, which becomes a vDisk that boots', async () => {
    const localDisk = join(temporary.path, 'installed.img')
    await copyFile(await ensureExt4Image(site.rootfs), localDisk, constants.COPYFILE_FICLONE)
    {
      await using machine = powerOn('captured', 'bootwire.check', { localDisk })
      // It need not be a client of ours.
      await machine.console.expect(/ok +stream/, { timeoutMs: ROUND_MS })
      machine.console.send('d')
      await machine.console.expect(/1 \/dev\/vda 1\.00 GiB/, { timeoutMs: ROUND_MS })
      machine.console.send('1')
      const { groups } = await machine.console.expect(
        /capture approve (?<code>[A-Z]{4}-[A-Z]{4})/,
        {
          timeoutMs: ROUND_MS,
        },
      )
      await admin(
        'capture',
        'approve',
        groups['code'] ?? '',
        '--name',
        'captured',
        '--access',
        'anyone',
      )
      await machine.console.expect(/is on the server: it is captured@1/, {
        timeoutMs: BOOT_TIMEOUT_MS,
      })
    }
    const client = await site.client(MAC)
    if (client.state === 'approved') await admin('client', 'unassign', client.hostname, 'lab')
    else await admin('client', 'approve', client.hostname)
    await admin('client', 'assign', client.hostname, 'captured')
    await using machine = powerOn('from-capture', '', { localDisk })
    const { shell } = await logIn(machine)
    assert.equal(await shell.read('systemctl is-system-running --wait'), 'running')
    // The same by the command, from the running system.
    shell.send('/run/initramfs/bootwire-agent capture /dev/vda')
    const { groups } = await machine.console.expect(/capture approve (?<code>[A-Z]{4}-[A-Z]{4})/, {
      timeoutMs: ROUND_MS,
    })
    await admin('capture', 'approve', groups['code'] ?? '', '--name', 'again')
    await machine.console.expect(/Sent: it is again@1/, { timeoutMs: BOOT_TIMEOUT_MS })
    assert.equal(diskError(machine), undefined)
    await admin('client', 'unassign', client.hostname, 'captured')
    await admin('client', 'assign', client.hostname, 'lab')
  })
})
