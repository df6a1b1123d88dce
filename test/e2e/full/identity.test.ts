/**
 * Machines that prove who they are: one by its TPM, which an administrator admits by the code on its screen;
 * one that claims to be it; one by a key on its disk, admitted by a token; and one with no place for a key.
 */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { BootSite, logIn, SHUTDOWN_TIMEOUT_MS } from '#test/support/boot-site.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'
import { ensureExt4Image } from '#test/support/vdisk-image.ts'
import { BOOT_TIMEOUT_MS } from '#test/support/virtual-machine.ts'

const MAC = '52:54:00:e2:e0:91'
const LONG = { timeoutMs: BOOT_TIMEOUT_MS }

describe('a machine that proves who it is', { timeout: 8 * BOOT_TIMEOUT_MS }, () => {
  let site: BootSite
  let folder: TemporaryFolder
  let id: string
  let hostname: string

  before(async () => {
    site = await BootSite.start()
    folder = await createTemporaryFolder()
    await site.importImage(await ensureExt4Image(site.rootfs), 'lab')
    await command('vdisk', 'access', 'lab', 'authenticated')
  })
  after(async () => {
    await site[Symbol.asyncDispose]()
    await folder[Symbol.asyncDispose]()
  })

  const command = async (...args: string[]) => {
    const { status, stdout, stderr } = await site.server.run(...args)
    assert.equal(status, 0, stderr)
    return stdout
  }
  const tpm = (name: string) => {
    const path = join(folder.path, name)
    mkdirSync(path, { recursive: true })
    rmSync(join(path, 'control'), { force: true })
    return path
  }

  it('shows a code, by which it is admitted, and its TPM proves it from then on', async () => {
    await using machine = site.powerOn({ name: 'tpm', mac: MAC, tpm: tpm('own') })
    const { groups } = await machine.console.expect(
      /shows the code (?<code>[A-Z]{4}-[A-Z]{4})/,
      LONG,
    )
    const code = groups['code'] ?? ''
    assert.match(await command('client', 'ls', '--pending'), new RegExp(code))
    const byName = await site.server.run('client', 'approve', MAC)
    assert.match(byName.stderr, /expected the code that its screen shows/)
    const secret = join(folder.path, 'secret')
    writeFileSync(secret, 'hush-hush')
    const own = ['URL=https://a/', '--secret', `VPN=${secret}`, '--timezone', 'Europe/Vienna']
    await command('client', 'set', MAC, ...own)
    await command('client', 'approve', code.toLowerCase(), '--vdisk', 'lab')
    const { shell } = await logIn(machine)
    assert.match(await shell.read('cat /run/bootwire/settings'), /^URL='https:\/\/a\/'$/m)
    assert.match(await shell.read('readlink /etc/localtime'), /Europe\/Vienna/)
    const credential =
      "systemd-run --quiet --pipe -p LoadCredential=bootwire.VPN sh -c 'cat $CREDENTIALS_DIRECTORY/bootwire.VPN; echo' </dev/null"
    assert.match(await shell.read(credential), /hush-hush/)
    const asNobody = "setpriv --reuid=65534 cat /run/credstore/bootwire.VPN || echo 'kept'"
    assert.match(await shell.read(asNobody), /kept/)
    // While it runs.
    await command('client', 'set', MAC, 'URL=https://b/', '--timezone', 'Asia/Tokyo')
    await command('client', 'rename', MAC, 'reception')
    await shell.read('until [ "$(cat /etc/hostname)" = reception ]; do sleep 0.2; done')
    assert.match(await shell.read('cat /run/bootwire/settings; hostname'), /b\/'\s+reception/)
    assert.match(await shell.read('readlink /etc/localtime'), /Asia\/Tokyo/)
    const shown = await site.client(MAC)
    assert.deepEqual([shown.isAuthenticated, shown.key?.place], [true, 'tpm'])
    ;({ id, hostname } = shown)
    shell.send('systemctl reboot')
    await machine.console.expect(/iPXE initialising devices/, { timeoutMs: SHUTDOWN_TIMEOUT_MS })
    assert.equal((await logIn(machine)).hostname, hostname)
    assert.equal((await site.client(MAC)).isAuthenticated, true)
  })

  it('is nobody else with the same MAC', async () => {
    await using machine = site.powerOn({ name: 'impostor', mac: MAC, tpm: tpm('other') })
    await machine.console.expect(/claims to be the client/, LONG)
    const pending = (await site.server.json<{ claimsToBe?: string }[]>('client', 'ls')).filter(
      ({ claimsToBe }) => claimsToBe !== undefined,
    )
    assert.deepEqual(
      pending.map(({ claimsToBe }) => claimsToBe),
      [id],
    )
  })

  it('gets nothing any more when its key was revoked', async () => {
    await command('client', 'revoke', id)
    await using machine = site.powerOn({ name: 'revoked', mac: MAC, tpm: tpm('own') })
    await machine.console.expect(/does not admit this machine|BW-E315|BW-E307/, LONG)
  })

  it('without a place for a key gets no vDisk but those for anyone', async () => {
    const mac = '52:54:00:e2:e0:92'
    await using machine = site.powerOn({ name: 'keyless', mac })
    await machine.console.expect(/client approve/, LONG)
    await command('client', 'approve', mac, '--vdisk', 'lab')
    await machine.console.expect(/BW-E316/, LONG)
    await command('vdisk', 'access', 'lab', 'anyone')
    const secret = join(folder.path, 'secret')
    await command('client', 'set', mac, 'PLACE=hall', '--secret', `VPN=${secret}`)
    const { shell } = await logIn(machine)
    assert.match(await command('client', 'ls'), /not authenticated/)
    assert.match(await shell.read('ls /run/credstore'), /^bootwire\.PLACE\s*$/m)
    assert.doesNotMatch(
      await shell.read('grep -r hush /run/bootwire /run/credstore || true'),
      /hush-hush/,
    )
  })
})
