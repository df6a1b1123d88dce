import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { SettingsStore } from '#server/clients/settings-store.ts'
import { makeSshHostKey } from '#server/clients/ssh-host-key.ts'
import { MemoryStateStore } from '#test/support/memory-state-store.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const CLIENT = { id: '0123456789abcdef', hostname: 'kiosk-1' }

async function fixture() {
  const settings = new SettingsStore(new MemoryStateStore())
  await settings.set(CLIENT.id, {
    values: {
      URL: { value: 'https://a/', isSecret: false },
      VPN: { value: 'hush\n', isSecret: true },
    },
    timezone: 'Europe/Vienna',
  })
  return settings
}

describe('settings of a client', () => {
  it('of these, a machine that has proven nothing is told what is no secret, and no key', async () => {
    const settings = await fixture()
    assert.deepEqual(await settings.forMachine(CLIENT, false), {
      values: [{ name: 'URL', value: 'https://a/' }],
      timezone: 'Europe/Vienna',
    })
    const { sshHostKey } = await settings.view(CLIENT.id)
    assert.equal(sshHostKey, undefined, 'nor is one made for it')
  })

  it('who has proven to be the client gets all, and the same host key each time', async () => {
    const settings = await fixture()
    const first = await settings.forMachine(CLIENT, true)
    assert.deepEqual(first.values, [
      { name: 'URL', value: 'https://a/' },
      { name: 'VPN', value: 'hush\n', isSecret: true },
    ])
    assert.deepEqual(await settings.forMachine(CLIENT, true), first)
    const unproven = await settings.forMachine(CLIENT, false)
    assert.equal(JSON.stringify(unproven).includes('PRIVATE'), false)
    await settings.forgetHostKey(CLIENT.id)
    const second = await settings.forMachine(CLIENT, true)
    assert.notEqual(second.sshHostKey?.publicKey, first.sshHostKey?.publicKey)
  })

  it('people see names of secrets, and never what they are', async () => {
    const settings = await fixture()
    await settings.forMachine(CLIENT, true)
    const view = await settings.view(CLIENT.id)
    assert.deepEqual([view.values, view.secrets], [{ URL: 'https://a/' }, ['VPN']])
    assert.equal(/hush|PRIVATE/.test(JSON.stringify(view)), false)
  })

  it('what is null is taken back, what is absent stays', async () => {
    const settings = await fixture()
    await settings.set(CLIENT.id, { values: { VPN: null }, timezone: null, keymap: 'de' })
    assert.deepEqual(await settings.view(CLIENT.id), {
      values: { URL: 'https://a/' },
      secrets: [],
      keymap: 'de',
    })
    await settings.remove(CLIENT.id)
    assert.deepEqual(await settings.view(CLIENT.id), { values: {}, secrets: [] })
  })

  it('bad places and too much are refused, and nothing is changed', async () => {
    const settings = await fixture()
    const before = await settings.view(CLIENT.id)
    for (const timezone of ['../../etc/shadow', 'Europe/../x', '/etc', 'a b', '']) {
      await assert.rejects(settings.set(CLIENT.id, { timezone }), { code: 'INVALID_ARGUMENT' })
    }
    for (const locale of ['de_AT;reboot', '-x', 'a\nb']) {
      await assert.rejects(settings.set(CLIENT.id, { locale }), { code: 'INVALID_ARGUMENT' })
    }
    const many = Object.fromEntries(
      Array.from({ length: 65 }, (_, index) => [`N${index}`, { value: 'x', isSecret: false }]),
    )
    const large = Object.fromEntries(
      Array.from({ length: 7 }, (_, index) => [
        `N${index}`,
        { value: 'x'.repeat(4000), isSecret: true },
      ]),
    )
    for (const values of [many, large]) {
      await assert.rejects(settings.set(CLIENT.id, { values }), { code: 'LIMIT_EXCEEDED' })
    }
    assert.deepEqual(await settings.view(CLIENT.id), before)
  })
})

it('a host key is one that OpenSSH reads, with the public key beside it', async () => {
  await using folder = await createTemporaryFolder()
  const path = join(folder.path, 'key')
  for (const comment of ['root@a', 'root@kiosk-17', 'root@abcdefgh']) {
    const { privateKey, publicKey } = makeSshHostKey(comment)
    await writeFile(path, privateKey)
    await chmod(path, 0o600)
    const derived = execFileSync('ssh-keygen', ['-y', '-f', path], { encoding: 'utf8' })
    assert.equal(derived, publicKey)
  }
})
