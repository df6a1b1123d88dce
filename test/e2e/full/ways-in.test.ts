/**
 * Every way from firmware to a login, beside a DHCP server of somebody else, which knows nothing of bootwire.
 * Each in networks of the test's own: the server in one, the switch with the foreign DHCP server in another.
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type BootSite, diskError, logIn, type MachineOptions } from '#test/support/boot-site.ts'
import { ensureIpxePrograms } from '#test/support/ipxe-programs.ts'
import { LAN_HOST_ADDRESS } from '#test/support/lan.ts'
import { LanSite } from '#test/support/lan-site.ts'
import { TaggedPort } from '#test/support/tagged-port.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'
import { BOOT_TIMEOUT_MS } from '#test/support/virtual-machine.ts'

describe('ways in', { timeout: 12 * BOOT_TIMEOUT_MS }, () => {
  const opened = new AsyncDisposableStack()
  let temporary: TemporaryFolder
  let network: LanSite
  let site: BootSite
  let ipxeFolder: string
  const path = (name: string) => join(temporary.path, name)

  before(async () => {
    temporary = opened.use(await createTemporaryFolder())
    ipxeFolder = await ensureIpxePrograms()
    const own = ['--unknown-clients', 'vdisk:lab', '--ipxe-folder', ipxeFolder]
    network = opened.use(await LanSite.start(['--proxy-dhcp', '--tftp', ...own]))
    site = network.site
  })
  after(async () => await opened.disposeAsync())

  /** Boots to the login, looks at the system's own view of its network, and cuts the power. */
  const bootToLogin = async (options: Omit<MachineOptions, 'port'>) => {
    const { lan, port } = network
    const before = lan.bytesOf(port)
    await using machine = site.powerOn({ ...options, port })
    const agent = await machine.console.expect(/bootwire: agent /, { timeoutMs: BOOT_TIMEOUT_MS })
    const seconds = (agent.atMs - machine.startedAtMs) / 1000
    const moved = lan.bytesOf(port) - before
    process.stdout.write(
      `${options.name}: ${seconds.toFixed(1)} s to the agent's first line, ${(moved / 1e6).toFixed(1)} MB\n`,
    )
    const { shell, hostname } = await logIn(machine)
    assert.equal(await shell.read('hostnamectl --static'), hostname)
    assert.equal(diskError(machine), undefined)
    return machine.console.text
  }
  const media = async (kind: 'iso' | 'usb', name: string, ...options: string[]) => {
    const more = ['--ipxe-folder', ipxeFolder, ...options]
    const { status, stderr } = await site.server.run('media', kind, path(name), ...more)
    assert.equal(status, 0, stderr)
    return path(name)
  }
  const at = () => `${LAN_HOST_ADDRESS}:${site.server.httpPort}`

  it('BIOS with an iPXE ROM: proxyDHCP, then the script', async () => {
    await bootToLogin({ name: 'way-bios-rom', mac: '52:54:00:aa:00:01' })
    assert.match(site.server.log(), /proxyDHCP mac=52:54:00:aa:00:01 .*isIpxe=true/)
  })

  it('BIOS by PXE: undionly.kpxe over TFTP, then the script', async () => {
    // QEMU's BIOS has no PXE but iPXE's; its first step is done by an iPXE that was given this script.
    const script = path('bios-pxe.ipxe')
    await writeFile(
      script,
      `#!ipxe\nifconf -c dhcp\nchain tftp://${LAN_HOST_ADDRESS}/undionly.kpxe\n`,
    )
    const kernel = { path: join(ipxeFolder, 'ipxe.lkrn'), initrd: script, cmdline: '' }
    await bootToLogin({
      name: 'way-bios-pxe',
      mac: '52:54:00:aa:00:02',
      bootsBy: 'nothing',
      kernel,
    })
    assert.match(site.server.log(), /TFTP: sent name=undionly\.kpxe/)
  })

  it('UEFI by PXE: snponly.efi over TFTP, which finds its script by itself', async () => {
    const name = 'way-uefi-pxe'
    await bootToLogin({ name, mac: '52:54:00:aa:00:03', firmware: 'uefi', bootsBy: 'firmware-pxe' })
    assert.match(site.server.log(), /TFTP: sent name=snponly\.efi/)
    assert.match(site.server.log(), /TFTP: sent name=autoexec\.ipxe/)
  })

  it('UEFI over HTTP', async () => {
    const name = 'way-uefi-http'
    await bootToLogin({
      name,
      mac: '52:54:00:aa:00:04',
      firmware: 'uefi',
      bootsBy: 'firmware-http',
    })
    assert.match(site.server.log(), /proxyDHCP .*HTTPClient.*\/ipxe\/snponly\.efi/)
  })

  it('a CD on a BIOS, with the server by name of the network, and a key that is trusted', async () => {
    const medium = {
      path: await media('iso', 'cd.iso', '--at', at(), '--trust', 'own'),
      kind: 'cd' as const,
    }
    await bootToLogin({ name: 'way-cd-bios', mac: '52:54:00:aa:00:05', bootsBy: 'nothing', medium })
  })

  it('a stick on UEFI, with a fixed address, after a server that is not there', async () => {
    const fixed = ['--address', '10.79.0.77/24', '--gateway', LAN_HOST_ADDRESS]
    const image = await media('usb', 'stick.img', '--at', '10.79.0.99', '--at', at(), ...fixed)
    const medium = { path: image, kind: 'usb' as const }
    const mac = '52:54:00:aa:00:06'
    const text = await bootToLogin({
      name: 'way-usb-uefi',
      mac,
      firmware: 'uefi',
      bootsBy: 'nothing',
      medium,
    })
    assert.match(text, /no answer from 10\.79\.0\.99/)
    assert.match(text, /10\.79\.0\.77/)
  })

  it('a stick whose server is somewhere else by now asks the network, then a person', async () => {
    const image = await media('usb', 'old.img', '--at', '10.79.0.99')
    const medium = { path: image, kind: 'usb' as const }
    await using machine = site.powerOn({
      name: 'way-usb-ask',
      mac: '52:54:00:aa:00:07',
      bootsBy: 'nothing',
      medium,
      port: network.port,
    })
    const { console } = machine
    const timeoutMs = BOOT_TIMEOUT_MS
    await console.expect(/no server was found[^]*Press M to name a server/, { timeoutMs })
    console.send('m')
    await console.expect(/Address of the server/, { timeoutMs })
    console.send(`${at()}\r`)
    await logIn(machine)
  })

  it('a stick that is told nothing finds the server by the DHCP option', async () => {
    // udhcpd knows no names for private options; in hex it sends any.
    await network.restartDhcp(`0xe0 ${Buffer.from(at()).toString('hex')}`)
    const medium = { path: await media('usb', 'bare.img'), kind: 'usb' as const }
    const mac = '52:54:00:aa:00:08'
    await bootToLogin({ name: 'way-usb-found', mac, bootsBy: 'nothing', medium })
  })

  it('a stick on UEFI for a tagged VLAN', async () => {
    await using tagged = await TaggedPort.open(await network.lan.port(), 42)
    const image = await media('usb', 'vlan.img', '--at', at(), '--vlan', '42')
    await using machine = site.powerOn({
      name: 'way-usb-vlan',
      mac: '52:54:00:aa:00:0b',
      firmware: 'uefi',
      bootsBy: 'nothing',
      medium: { path: image, kind: 'usb' },
      port: tagged.port,
    })
    const { shell } = await logIn(machine)
    assert.match(await shell.read('cat /proc/net/vlan/config'), /\| 42 +\|/)
    assert.equal(diskError(machine), undefined)
  })

  it('the menu of iPXE opens on its key and leads to the technician’s screen', async () => {
    const mac = '52:54:00:aa:00:09'
    await using machine = site.powerOn({ name: 'way-menu', mac, port: network.port })
    const { console } = machine
    const timeoutMs = BOOT_TIMEOUT_MS
    await console.expect(/press M for a menu/, { timeoutMs })
    console.send('m')
    await console.expect(/Start from the local disk/, { timeoutMs })
    console.send('\x1b[B\r')
    await console.expect(/The way to the server[^]*Every link works/, { timeoutMs })
    console.send('c')
    await logIn(machine)
  })

  it('the technician’s screen comes up on its key while the machine boots', async () => {
    const mac = '52:54:00:aa:00:0a'
    await using machine = site.powerOn({ name: 'way-hot-key', mac, port: network.port })
    const { console } = machine
    const timeoutMs = BOOT_TIMEOUT_MS
    await console.expect(/bootwire: eth0 has/, { timeoutMs })
    console.send('t')
    await console.expect(/The way to the server[^]*Every link works/, { timeoutMs })
    console.send('c')
    await logIn(machine)
  })
})
