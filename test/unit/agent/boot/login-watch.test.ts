import assert from 'node:assert/strict'
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { untilLogin } from '#agent/boot/login-watch.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const OTHERS = ['ssh.service', 'getty.target', 'dbus.service', 'serial-getty@ttyS0.service.d']
const LOGINS = [
  'getty@tty1.service',
  'serial-getty@ttyS0.service',
  'console-getty.service',
  'gdm3.service',
  'sddm.service',
  'display-manager.service',
]

describe('untilLogin', { timeout: 20_000 }, () => {
  it('waits for a unit that offers a login, also when the folder comes later', async () => {
    for (const login of LOGINS) {
      await using temporary = await createTemporaryFolder()
      for (const unit of OTHERS) link(temporary.path, unit)
      let isUp = false
      const up = untilLogin(temporary.path).then((found) => {
        assert.ok(isUp, 'not by what was there before')
        return found
      })
      await new Promise(setImmediate)
      isUp = true
      link(temporary.path, login)
      assert.equal(await up, true, login)
    }
  })
})

/** As systemd does it. */
function link(folder: string, unit: string): void {
  symlinkSync('0123456789abcdef', join(folder, `invocation:${unit}`))
}
