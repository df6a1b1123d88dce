/** What the initramfs leaves in /run for the network services of the system. */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { runProgram } from '#test/support/child-run.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const SCRIPT = join(import.meta.dirname, '../../../initramfs/keep-network.sh')
const MAC = '52:54:00:00:00:01'

async function filesFor(...args: string[]): Promise<Record<string, string>> {
  await using temporary = await createTemporaryFolder()
  await runProgram('busybox', ['sh', SCRIPT, temporary.path, MAC, ...args])
  const entries = await readdir(temporary.path, { recursive: true, withFileTypes: true })
  const files: Record<string, string> = {}
  for (const entry of entries.filter((it) => it.isFile())) {
    const path = join(entry.parentPath, entry.name)
    files[path.slice(temporary.path.length + 1)] = await readFile(path, 'utf8')
  }
  return files
}

const SKIPPED = '[Unit]\nConditionPathExists=!/run/bootwire\n'

it('keep-network.sh has every network service keep off the card of the root', async () => {
  assert.deepEqual(await filesFor('10.0.2.3', '10.0.2.4'), {
    'NetworkManager/conf.d/bootwire.conf': `[main]\nrc-manager=unmanaged\n[device-bootwire]\nmatch-device=mac:${MAC}\nmanaged=0\n`,
    'systemd/network/00-bootwire.network': `[Match]\nMACAddress=${MAC}\n[Link]\nUnmanaged=yes\n`,
    'systemd/resolved.conf.d/bootwire.conf': '[Resolve]\nDNS=10.0.2.3 10.0.2.4\n',
    'systemd/system/ifup@.service.d/bootwire.conf': SKIPPED,
    'systemd/system/networking.service.d/bootwire.conf': SKIPPED,
    'systemd/system/systemd-networkd-wait-online.service.d/bootwire.conf': SKIPPED,
  })
})

it('keep-network.sh leaves the resolver alone where DHCP named none', async () => {
  assert.equal('systemd/resolved.conf.d/bootwire.conf' in (await filesFor()), false)
})
