/** What the initramfs makes of the server's word about a client, in the file system of the system. */
import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { runProgram } from '#test/support/child-run.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const SCRIPT = join(import.meta.dirname, '../../../initramfs/apply-settings.sh')

async function fixture(values: Record<string, string> = {}) {
  const folder = await createTemporaryFolder()
  const root = join(folder.path, 'root')
  const run = join(folder.path, 'run')
  for (const path of ['etc/default', 'etc/ssh', 'usr/share/zoneinfo/Europe']) {
    await mkdir(join(root, path), { recursive: true })
  }
  await mkdir(run)
  await writeFile(join(root, 'usr/share/zoneinfo/Europe/Vienna'), 'TZif')
  // The same name, or "change" would rename the machine the test runs on.
  await writeFile(join(root, 'etc/hostname'), 'kiosk-1\n')
  await writeFile(join(root, 'etc/machine-id'), 'abc\n')
  await writeFile(join(root, 'etc/ssh/ssh_host_rsa_key'), 'shared by all')
  const tell = async (more: Record<string, string>) => {
    const all = { CLIENT_HOSTNAME: 'kiosk-1', LOCALE: '', TIMEZONE: '', KEYMAP: '', ...more }
    const lines = Object.entries(all).map(([name, value]) => `${name}='${value}'\n`)
    await writeFile(join(run, 'system.env'), lines.join(''))
  }
  await tell(values)
  const apply = async (when: 'boot' | 'change') =>
    await runProgram('env', [`BOOTWIRE_RUN=${run}`, 'busybox', 'sh', SCRIPT, root, when])
  const read = async (path: string) => await readFile(join(root, path), 'utf8')
  return { folder, root, run, tell, apply, read }
}

it('locale, time zone and keyboard are where Debian and systemd look for them', async () => {
  const it = await fixture({
    LOCALE: 'de_AT.UTF-8',
    TIMEZONE: 'Europe/Vienna',
    KEYMAP: 'de-latin1',
  })
  await using _ = it.folder
  await it.apply('boot')
  assert.equal(await it.read('etc/locale.conf'), 'LANG=de_AT.UTF-8\n')
  assert.equal(await it.read('etc/default/locale'), 'LANG=de_AT.UTF-8\n')
  assert.equal(await readlink(join(it.root, 'etc/localtime')), '/usr/share/zoneinfo/Europe/Vienna')
  assert.equal(await it.read('etc/vconsole.conf'), 'KEYMAP=de-latin1\n')
  assert.match(await it.read('etc/default/keyboard'), /XKBLAYOUT="de"\n/)
})

it('what the server does not say stays, and a zone that the image lacks is left out', async () => {
  const it = await fixture({ TIMEZONE: 'Mars/Base' })
  await using _ = it.folder
  await writeFile(join(it.root, 'etc/locale.conf'), 'LANG=C\n')
  await it.apply('boot')
  assert.equal(await it.read('etc/locale.conf'), 'LANG=C\n')
  assert.equal((await readdir(join(it.root, 'etc'))).includes('localtime'), false)
})

it('links of the image lead nothing out of it', async () => {
  const it = await fixture({ LOCALE: 'C.UTF-8' })
  await using _ = it.folder
  const outside = join(it.folder.path, 'outside')
  await writeFile(outside, 'mine')
  await symlink(outside, join(it.root, 'etc/locale.conf'))
  await it.apply('boot')
  assert.equal(await readFile(outside, 'utf8'), 'mine')
  assert.equal(await it.read('etc/locale.conf'), 'LANG=C.UTF-8\n')
})

it("a host key of the image goes: the server's takes its place, else one is made at each boot", async () => {
  const it = await fixture()
  await using _ = it.folder
  const keys = async () =>
    (await readdir(join(it.root, 'etc/ssh')))
      .filter((name) => name.startsWith('ssh_host'))
      .toSorted()
  await it.apply('boot')
  assert.deepEqual(await keys(), [])
  await writeFile(join(it.root, 'etc/ssh/ssh_host_ed25519_key'), 'its own, kept')
  await it.apply('boot')
  assert.deepEqual(await keys(), ['ssh_host_ed25519_key'], 'of a machine that keeps what it writes')
  await writeFile(join(it.root, 'etc/machine-id'), 'def\n')
  await it.apply('boot')
  assert.deepEqual(await keys(), [], 'another machine')
  await writeFile(join(it.run, 'ssh-host-key'), 'from the server')
  await writeFile(join(it.run, 'ssh-host-key.pub'), 'public')
  await it.apply('boot')
  assert.deepEqual(await keys(), ['ssh_host_ed25519_key', 'ssh_host_ed25519_key.pub'])
  const { mode } = await stat(join(it.root, 'etc/ssh/ssh_host_ed25519_key'))
  assert.equal(mode & 0o777, 0o600)
})

it('a change does not touch the keys of a running sshd', async () => {
  const it = await fixture()
  await using _ = it.folder
  await it.tell({ KEYMAP: 'us' })
  await it.apply('change')
  assert.equal(await it.read('etc/ssh/ssh_host_rsa_key'), 'shared by all')
  assert.equal(await it.read('etc/vconsole.conf'), 'KEYMAP=us\n')
})
