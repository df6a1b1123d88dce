import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import type { Identity } from '#shared/wire/messages.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { writeClientSettings } from '../../../../agent/boot/client-settings-files.ts'
import { RunFolder } from '../../../../agent/boot/run-folder.ts'

const identity = (settings: Identity['settings'], more: Partial<Identity> = {}): Identity => ({
  kind: 'identity',
  state: 'approved',
  clientId: '0123456789abcdef',
  hostname: 'kiosk-1',
  machineId: '0123456789abcdef0123456789abcdef',
  serverName: 'test',
  offers: [],
  menuSeconds: 0,
  serverTimeMs: 0,
  isAuthenticated: true,
  ...(settings && { settings }),
  ...more,
})

const SETTINGS = {
  values: [
    { name: 'URL', value: "https://a/?b='c'&$(reboot)" },
    { name: 'VPN', value: 'hush', isSecret: true },
  ],
  timezone: 'Europe/Vienna',
  sshHostKey: { privateKey: 'private', publicKey: 'public' },
}

async function fixture() {
  const folder = await createTemporaryFolder()
  const runFolder = new RunFolder(join(folder.path, 'bootwire'))
  const write = (it: Identity) => writeClientSettings(runFolder, it, folder.path)
  const modeOf = async (...path: string[]) => (await stat(join(folder.path, ...path))).mode & 0o777
  return { folder, runFolder, write, modeOf }
}

it('secrets are in files of root alone; the rest is a file that a shell reads', async () => {
  const { folder, runFolder, write, modeOf } = await fixture()
  await using _ = folder
  assert.equal(write(identity(SETTINGS)), true)
  const script = `. "$1"; printf '%s' "$URL$VPN"`
  const path = runFolder.pathOf('settings')
  const read = execFileSync('sh', ['-c', script, 'sh', path], { encoding: 'utf8' })
  assert.equal(read, SETTINGS.values[0]?.value)
  assert.equal(runFolder.read('settings')?.includes('hush'), false)
  for (const place of [['credstore'], ['credentials', '@initrd']]) {
    assert.equal(await modeOf(...place), 0o700)
    assert.equal(await modeOf(...place, 'bootwire.VPN'), 0o600)
    const secret = await readFile(join(folder.path, ...place, 'bootwire.VPN'), 'utf8')
    assert.equal(secret, 'hush')
  }
  assert.equal(await modeOf('credentials'), 0o755, 'services of other users go through it')
  assert.equal(await modeOf('bootwire', 'ssh-host-key'), 0o600)
})

it('what is the same is not told again; what is taken back is gone', async () => {
  const { folder, runFolder, write } = await fixture()
  await using _ = folder
  write(identity(SETTINGS))
  assert.equal(write(identity(SETTINGS)), false)
  assert.equal(write(identity(SETTINGS, { serverTimeMs: 5, menuSeconds: 3 })), false)
  assert.equal(runFolder.read('settings-pending'), undefined, 'init takes the first')
  assert.equal(write(identity(SETTINGS, { hostname: 'other' })), true)
  assert.equal(runFolder.read('settings-pending'), '')
  assert.equal(write(identity({ values: [{ name: 'URL', value: 'x' }] })), true)
  assert.deepEqual(await readdir(join(folder.path, 'credstore')), ['bootwire.URL'])
  assert.equal(runFolder.read('ssh-host-key'), '')
  assert.match(runFolder.read('system.env') ?? '', /^CLIENT_HOSTNAME='kiosk-1'\n.*TIMEZONE=''/s)
})

it('a server that knows no settings changes none', async () => {
  const { folder, runFolder, write } = await fixture()
  await using _ = folder
  assert.equal(write(identity(undefined)), false)
  assert.equal(runFolder.read('settings'), undefined)
})
