/** Two DHCP servers in one network: the technician's screen has to name both. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { runProgram } from '#test/support/child-run.ts'
import { eventually } from '#test/support/eventually.ts'
import { Lan } from '#test/support/lan.ts'
import { NetworkNamespace } from '#test/support/network-namespace.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const ASK = `
  import { findDhcpServers } from '#agent/network/dhcp-discovery.ts'
  process.stdout.write(JSON.stringify(await findDhcpServers('52:54:00:00:00:07', 4500)))`

it('findDhcpServers() names every server that offers an address', {
  timeout: 120_000,
}, async () => {
  await using temporary = await createTemporaryFolder()
  await using client = await NetworkNamespace.create()
  await using other = await NetworkNamespace.create()
  await using lan = await Lan.create(client)
  await client.runScript('ip route add 255.255.255.255/32 dev bwlan0')
  await lan.startDhcp(undefined, 600)
  await lan.plugIn(other, '10.79.0.3')
  const ask = async () => {
    const [program = '', ...args] = client.command([
      process.execPath,
      '--input-type=module-typescript',
      '--eval',
      ASK,
    ])
    const text = await runProgram(program, args)
    return (JSON.parse(text) as { readonly serverId: string }[]).map(({ serverId }) => serverId)
  }
  assert.deepEqual(await ask(), ['10.79.0.2'])
  const config = join(temporary.path, 'udhcpd.conf')
  const lines = ['interface lan', 'start 10.79.0.200', 'end 10.79.0.210', 'pidfile /dev/null']
  await writeFile(config, `${[...lines, `lease_file ${config}.leases`].join('\n')}\n`)
  await writeFile(`${config}.leases`, '')
  const command = ['--pdeathsig', 'KILL', ...other.command(['busybox', 'udhcpd', '-f', config])]
  const second = spawn('setpriv', command, { stdio: 'ignore' })
  try {
    await eventually('both answer', async () => (await ask()).length === 2, 60_000)
    assert.deepEqual(new Set(await ask()), new Set(['10.79.0.2', '10.79.0.3']))
  } finally {
    second.kill('SIGKILL')
  }
})
