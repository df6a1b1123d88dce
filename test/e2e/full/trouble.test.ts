/**
 * Networks that are not as they should be: each ends in a boot, or in a screen that says which link of the way is
 * broken.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { renderBootParameters } from '#shared/boot/kernel-cmdline.ts'
import { BootSite, logIn } from '#test/support/boot-site.ts'
import { directBoot, kernelIdOf } from '#test/support/direct-boot.ts'
import { eventually } from '#test/support/eventually.ts'
import { ensureIpxePrograms } from '#test/support/ipxe-programs.ts'
import { LAN_HOST_ADDRESS } from '#test/support/lan.ts'
import { LanSite } from '#test/support/lan-site.ts'
import { NetworkNamespace } from '#test/support/network-namespace.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'
import { ensureMbrBtrfsImage } from '#test/support/vdisk-image.ts'
import {
  BOOT_TIMEOUT_MS,
  type LanPort,
  type VirtualMachine,
} from '#test/support/virtual-machine.ts'

const AGENT = /bootwire: agent /
const timeoutMs = BOOT_TIMEOUT_MS

describe('a network in trouble', { timeout: 12 * BOOT_TIMEOUT_MS }, () => {
  const opened = new AsyncDisposableStack()
  let temporary: TemporaryFolder
  let network: LanSite
  let site: BootSite
  let port: LanPort
  let ipxeFolder: string
  const path = (name: string) => join(temporary.path, name)

  before(async () => {
    temporary = opened.use(await createTemporaryFolder())
    ipxeFolder = await ensureIpxePrograms()
    const own = ['--unknown-clients', 'vdisk:lab', '--ipxe-folder', ipxeFolder]
    network = opened.use(await LanSite.start(['--proxy-dhcp', '--tftp', ...own]))
    site = network.site
    port = network.port
  })
  after(async () => await opened.disposeAsync())

  it('a link that comes up after twenty seconds', async () => {
    const image = path('stick.img')
    const at = `${LAN_HOST_ADDRESS}:${site.server.httpPort}`
    const made = await site.server.run(
      'media',
      'usb',
      image,
      '--at',
      at,
      '--ipxe-folder',
      ipxeFolder,
    )
    assert.equal(made.status, 0, made.stderr)
    await using machine = site.powerOn({
      name: 'trouble-link',
      mac: '52:54:00:dd:00:01',
      bootsBy: 'nothing',
      port,
      medium: { path: image, kind: 'usb' },
    })
    await machine.console.expect(/SeaBIOS/, { timeoutMs })
    await machine.setCable(false)
    // iPXE itself waits for fifteen seconds, and says what is missing then.
    await machine.console.expect(/no address\. Check the cable[^]*Trying again/, { timeoutMs })
    await machine.setCable(true)
    await machine.console.expect(AGENT, { timeoutMs })
  })

  it('a proxyDHCP that answers later than the DHCP server', async () => {
    const offersBefore = network.lan.offersMade
    let machine: VirtualMachine | undefined
    await site.withFrozenServer(async () => {
      // It asks again. An iPXE in a ROM does not: it says "Nothing to boot" after its patience of seconds.
      machine = site.powerOn({
        name: 'trouble-late',
        mac: '52:54:00:dd:00:09',
        firmware: 'uefi',
        bootsBy: 'firmware-pxe',
        port,
      })
      await eventually(
        'the machine has an offer that names nothing to boot',
        () => Promise.resolve(network.lan.offersMade > offersBefore),
        timeoutMs,
      )
    })
    await machine?.console.expect(AGENT, { timeoutMs })
    await machine?.stop()
  })

  it('a server that goes away in the middle of a download', async () => {
    // 45 MB take a while then.
    await network.lan.runScript(
      'tc qdisc add dev "$1" root tbf rate 60mbit burst 64kb latency 50ms',
      [port.tap],
    )
    await using machine = site.powerOn({ name: 'trouble-download', mac: '52:54:00:dd:00:02', port })
    await machine.console.expect(/\/files\/agent\.img\.\.\. +[1-9]/, { timeoutMs })
    await site.withoutServer(async () => {
      await machine.console.expect(
        /kernel could not be loaded or started[^]*Trying again in 10 s/,
        {
          timeoutMs,
        },
      )
    }, 'SIGKILL')
    await network.lan.runScript('tc qdisc del dev "$1" root', [port.tap])
    await machine.console.expect(AGENT, { timeoutMs })
  })

  it('two boot servers, of which one has nothing to give', async () => {
    await using other = await NetworkNamespace.create()
    await network.lan.plugIn(other, '10.79.0.3')
    await using _ = await BootSite.startIn(
      other,
      '--address',
      '10.79.0.3',
      '--proxy-dhcp',
      '--tftp',
      '--ipxe-folder',
      ipxeFolder,
      '--other-server',
      `http://${LAN_HOST_ADDRESS}:${site.server.httpPort}`,
    )
    await using machine = site.powerOn({ name: 'trouble-two', mac: '52:54:00:dd:00:03', port })
    const { text } = await machine.console.expect(/bootwire: agent |cannot boot yet/, { timeoutMs })
    // Whichever the firmware took, a person is told which it is.
    if (/cannot boot yet/.test(text)) {
      await machine.console.expect(/no vDisk with a kernel yet[^]*This server: +10\.79\.0\.3/, {
        timeoutMs,
      })
    }
  })

  it('a way that lets only packets of 1400 bytes through, with a DHCP server that says so', async () => {
    await network.restartDhcp('mtu 1400')
    await narrow()
    await using machine = site.powerOn({ name: 'trouble-mtu', mac: '52:54:00:dd:00:04', port })
    const { shell } = await logIn(machine)
    assert.match(await shell.read('ip link show'), /bootwire.* mtu 1400/)
    await network.restartDhcp()
  })

  it('the same, and nobody says so: the download breaks off by name, unless the server probes', async () => {
    await narrow()
    {
      const mac = '52:54:00:dd:00:05'
      await using machine = site.powerOn({ name: 'trouble-mtu-silent', mac, port })
      await machine.console.expect(
        /http:[^ ]+(?:\s*\.)+\s*Connection (?:reset|timed out)|large packets are lost: look at the MTU/,
        { timeoutMs },
      )
    }
    await network.host.runScript('sysctl -q -w net.ipv4.tcp_mtu_probing=1')
    const mac = '52:54:00:dd:00:08'
    await using machine = site.powerOn({ name: 'trouble-mtu-probed', mac, port })
    await machine.console.expect(AGENT, { timeoutMs })
    await network.lan.runScript('ip link set "$1" mtu 1500', [port.tap])
  })

  it('kernel and drivers of different versions', async () => {
    await site.importImage(await ensureMbrBtrfsImage(site.rootfs), 'full')
    const [kernelId, full] = [await kernelIdOf(site, 'lab'), await kernelIdOf(site, 'full')]
    const kernel = await directBoot(site, path('mixed.img'), kernelId, full)
    const servers = [{ host: LAN_HOST_ADDRESS, port: site.server.tlsPort }]
    const own = renderBootParameters({ servers, pin: site.server.pin, kernelId })
    await using machine = site.powerOn({
      name: 'trouble-drivers',
      mac: '52:54:00:dd:00:06',
      bootsBy: 'nothing',
      port,
      kernel: {
        ...kernel,
        cmdline: `rootfstype=ramfs console=ttyS0,115200 quiet ${own}`,
      },
    })
    await machine.console.expect(
      /BW-E403 Cannot attach the vDisk: this kernel has no driver "nbd"/,
      {
        timeoutMs,
      },
    )
  })

  /** The port lets no packets through that are larger. */
  const narrow = async () => {
    // Made as large as they travel, or else the port would not see how large they are.
    await network.host.runScript('ip link set dev bwlan0 gso_max_segs 1')
    await network.lan.runScript('ip link set "$1" mtu 1400', [port.tap])
  }
  it('break= stops where it says, on every console, and goes on', async () => {
    const kernelId = await kernelIdOf(site, 'lab')
    const kernel = await directBoot(site, path('break.img'), kernelId)
    const servers = [{ host: LAN_HOST_ADDRESS, port: site.server.tlsPort }]
    const own = renderBootParameters({ servers, pin: site.server.pin, kernelId })
    await using machine = site.powerOn({
      name: 'trouble-break',
      mac: '52:54:00:dd:00:07',
      bootsBy: 'nothing',
      port,
      kernel: {
        ...kernel,
        cmdline: `rootfstype=ramfs systemd.swap=0 console=tty0 console=ttyS0,115200 quiet ip=dhcp break=premount,mount ${own}`,
      },
    })
    const { console } = machine
    await console.expect(/stopped at "premount" \(break=\)[^]*# /, { timeoutMs })
    console.send('echo shell-of-$(basename /a/premount)\r')
    await console.expect(/shell-of-premount[^]*# /, { timeoutMs })
    console.send('exit\r')
    await console.expect(/stopped at "mount"[^]*# /, { timeoutMs })
    console.send('exit\r')
    await logIn(machine)
  })
})
