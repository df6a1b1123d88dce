/** proxyDHCP and TFTP as a network sees them: real sockets on the well-known ports of a network of its own. */
import assert from 'node:assert/strict'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { DHCP_OPTION, decodeDhcpMessage, macBytes } from '#shared/dhcp/dhcp-message.ts'
import { runProgram } from '#test/support/child-run.ts'
import { LAN_HOST_ADDRESS, Lan } from '#test/support/lan.ts'
import { NetworkNamespace } from '#test/support/network-namespace.ts'
import {
  runBootwire,
  type ServerProcess,
  startServerProcessIn,
} from '#test/support/server-process.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

/** What a client sends and hears, run in the client's network: prints the answers as hex. */
const ASK = join(import.meta.dirname, '../../support/dhcp-ask.ts')
const PROGRAM = Buffer.from(Array.from({ length: 70_000 }, (_, at) => (at * 13) & 255))

describe('PXE services', () => {
  const opened = new AsyncDisposableStack()
  let temporary: TemporaryFolder
  let host: NetworkNamespace
  let lan: Lan
  let server: ServerProcess
  const path = (name: string) => join(temporary.path, name)

  before(async () => {
    temporary = opened.use(await createTemporaryFolder())
    host = opened.use(await NetworkNamespace.create())
    lan = opened.use(await Lan.create(host))
    // Where broadcasts without an address go to.
    await lan.runScript('ip route add 255.255.255.255/32 dev switch')
    await mkdir(path('ipxe'))
    await writeFile(path('real.efi'), PROGRAM)
    await symlink(path('real.efi'), path('ipxe/snponly.efi'))
    await writeFile(path('ipxe/undionly.kpxe'), PROGRAM)
    await writeFile(path('secret.efi'), 'secret')
    await writeFile(path('ipxe/notes.txt'), 'not a program')
    server = opened.use(
      await startServerProcessIn(
        (command) => host.command(command),
        path('state'),
        '--address',
        '0.0.0.0',
        '--proxy-dhcp',
        '--tftp',
        '--ipxe-folder',
        path('ipxe'),
      ),
    )
  })
  after(async () => await opened.disposeAsync())

  const ask = async (...args: string[]) => {
    const [program = '', ...rest] = lan.command([process.execPath, ASK, ...args])
    const answers = (await runProgram(program, rest)).trim().split('\n')
    return answers
      .filter((line) => line !== '')
      .map((line) => decodeDhcpMessage(Buffer.from(line, 'hex')))
  }
  const fetchFile = async (name: string, ...options: string[]) => {
    const [program = '', ...rest] = lan.command([
      'curl',
      '--silent',
      '--show-error',
      '--output',
      path('got'),
      '--max-time',
      '20',
      ...options,
      `tftp://${LAN_HOST_ADDRESS}/${name}`,
    ])
    await runProgram(program, rest)
    return await readFile(path('got'))
  }

  it('answers a broadcast with one offer, from the address the client can reach', async () => {
    const answers = await ask('67', 'PXEClient:Arch:00007:UNDI:003016', '7')
    assert.equal(answers.length, 1)
    assert.equal(answers[0]?.bootFile, 'snponly.efi')
    assert.equal(answers[0]?.nextServer, LAN_HOST_ADDRESS)
    assert.deepEqual(answers[0]?.hardwareAddress, macBytes('52:54:00:00:00:77'))
  })

  it('answers on port 4011, to the port that was asked from', async () => {
    const answers = await ask('4011', 'PXEClient:Arch:00000:UNDI:002001', '0')
    assert.equal(answers.length, 1)
    assert.equal(answers[0]?.bootFile, 'undionly.kpxe')
    assert.equal(answers[0]?.options.get(DHCP_OPTION.messageType)?.[0], 5)
  })

  it('names the script to iPXE and a URL to HTTP firmware, that are both there', async () => {
    const [ipxe] = await ask('67', 'PXEClient', '7', 'iPXE')
    const [http] = await ask('67', 'HTTPClient:Arch:00016:UNDI:003000', '16')
    for (const url of [ipxe?.bootFile, http?.bootFile]) {
      assert.match(url ?? '', new RegExp(`^http://${LAN_HOST_ADDRESS}:${server.httpPort}/`))
      const [program = '', ...rest] = lan.command([
        'curl',
        '--silent',
        '--fail',
        '-o',
        path('got'),
        url ?? '',
      ])
      await runProgram(program, rest)
    }
    assert.deepEqual(await readFile(path('got')), PROGRAM)
  })

  it('says nothing to a machine that it has no program for, and logs what is missing', async () => {
    assert.deepEqual(await ask('67', 'PXEClient:Arch:00011:UNDI:003000', '11'), [])
    assert.match(server.log(), /there is no boot program.*snponly-arm64\.efi/s)
  })

  it('gives programs over TFTP in blocks of any size, also by a link and from the root', async () => {
    for (const size of ['8', '512', '1432', '65464']) {
      assert.deepEqual(await fetchFile('snponly.efi', '--tftp-blksize', size), PROGRAM)
    }
    assert.deepEqual(await fetchFile('/undionly.kpxe', '--tftp-no-options'), PROGRAM)
    const script = await fetchFile('autoexec.ipxe')
    assert.ok(script.includes(`http://${LAN_HOST_ADDRESS}:${server.httpPort}/boot?`))
  })

  it('gives nothing else, whatever the name', async () => {
    const names = [
      'notes.txt',
      'secret.efi',
      '../secret.efi',
      '%2e%2e/secret.efi',
      '..%5csecret.efi',
      '%00',
      'x'.repeat(400),
    ]
    for (const name of names) await assert.rejects(fetchFile(name, '--path-as-is'), name)
    assert.doesNotMatch(server.log(), /TFTP request failed/)
  })

  it('takes no files', async () => {
    const [program = '', ...rest] = lan.command([
      'curl',
      '--silent',
      '--max-time',
      '20',
      '-T',
      path('secret.efi'),
      `tftp://${LAN_HOST_ADDRESS}/snponly.efi`,
    ])
    await assert.rejects(runProgram(program, rest))
    assert.deepEqual(await readFile(path('real.efi')), PROGRAM)
  })

  it('follows addresses that come and go', async () => {
    await host.runScript('ip address add 10.79.0.9/24 dev bwlan0')
    const deadline = Date.now() + 30_000
    while (!/address=10\.79\.0\.9/.test(server.log()) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    const answers = await ask('67', 'PXEClient:Arch:00000:UNDI:002001', '0')
    const servers = new Set(answers.map((it) => it?.nextServer))
    assert.deepEqual(servers, new Set(['10.79.0.1', '10.79.0.9']))
    await host.runScript('ip address del 10.79.0.9/24 dev bwlan0')
  })

  it('a second server on the same machine is told who has the port; a folder without programs, too', async () => {
    const serve = async (...options: string[]) => {
      const [program = '', ...rest] = host.command([
        process.execPath,
        join(import.meta.dirname, '../../../server/main.ts'),
        'serve',
        '--state',
        path('other'),
        '--http-port',
        '0',
        '--tls-port',
        '0',
        ...options,
      ])
      return await runProgram(program, rest).then(
        () => '',
        (error: unknown) => String(error),
      )
    }
    const missing = await serve('--tftp', '--ipxe-folder', path('nowhere'))
    assert.match(missing, /BW-E112 Cannot serve PXE: there are no iPXE programs in .*nowhere/)
    const absent = await serve('--tftp', '--pxe-address', '10.1.2.3', '--ipxe-folder', path('ipxe'))
    assert.match(absent, /BW-E106 Cannot listen on 10\.1\.2\.3 port 69\/udp \(--tftp\)/)
  })
})

describe('bootwire pxe config', () => {
  it('prints what dnsmasq takes, as it stands', async () => {
    const { stdout, status } = await runBootwire(
      'pxe',
      'config',
      'dnsmasq',
      '--address',
      '10.0.0.1',
    )
    assert.equal(status, 0)
    await using temporary = await createTemporaryFolder()
    const file = join(temporary.path, 'dnsmasq.conf')
    await writeFile(file, stdout)
    await runProgram('dnsmasq', ['--test', '--conf-file=' + file])
    await writeFile(file, stdout.replaceAll(/^#   /gm, '').replaceAll('NETWORK', '10.0.0.0'))
    await runProgram('dnsmasq', ['--test', '--conf-file=' + file])
  })
})
