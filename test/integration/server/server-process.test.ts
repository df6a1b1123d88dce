import assert from 'node:assert/strict'
import { once } from 'node:events'
import { stat, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { describe, it } from 'node:test'
import type {
  BootView,
  ClientDetails,
  ClientView,
  StatusView,
  VDiskView,
} from '#server/admin/admin-api.ts'
import { encodeRequest, PRIORITY } from '#shared/wire/frame.ts'
import { hello } from '#test/support/agent-messages.ts'
import { createBootableImage } from '#test/support/bootable-image.ts'
import { eventually } from '#test/support/eventually.ts'
import { runBootwire, startServerProcess } from '#test/support/server-process.ts'
import { TestAgent } from '#test/support/stream-fixture.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const TIMEOUT = { timeout: 120_000 }

describe('bootwire', TIMEOUT, () => {
  it('takes an unknown client from its first hello to its vDisk', async () => {
    await using folder = await createTemporaryFolder()
    const image = await createBootableImage(folder.path, 'Debian 12')
    await using server = await startServerProcess(join(folder.path, 'state'))
    const imported = await server.run('vdisk', 'import', image, '--kernel-optional')
    assert.equal(imported.status, 0, imported.stderr)
    assert.match(imported.stdout, /^vDisk debian-12, imported in /)
    const agent = await TestAgent.connect(server.tlsPort)
    agent.say(hello())
    assert.equal((await agent.nextMessage('identity')).state, 'pending')
    const pending = await server.json<ClientView[]>('client', 'ls', '--pending')
    assert.deepEqual(
      pending.map(({ hostname, connection }) => [hostname, connection]),
      [['client-1', 'waiting']],
    )
    const approved = await server.run('client', 'approve', 'client-1', '--vdisk', 'debian-12')
    assert.match(approved.stdout, /^Approved client-1\n.*bootwire vdisk access debian-12 anyone\n$/)
    assert.equal((await agent.nextMessage('identity')).withheld, 1)
    await server.run('vdisk', 'access', 'debian-12', 'anyone')
    assert.equal((await agent.nextMessage('identity')).defaultVdisk, 'debian-12')
    agent.say({ kind: 'open', vdisk: 'debian-12', firstPushBytes: 0 })
    const opened = await agent.nextMessage('opened')
    const objects = [{ level: 1, position: 0 }]
    agent.socket.send(encodeRequest({ priority: PRIORITY.demand, objects }))
    assert.ok('frame' in (await agent.next()))
    agent.say({ kind: 'phase', phase: 'attached', uptimeSeconds: 5 })
    agent.say({ kind: 'bye', reason: 'poweroff' })
    assert.equal((await agent.closed).code, 1000)
    const client = await server.json<ClientDetails>('client', 'show', '52:54:00:00:00:01')
    const [boot] = client.boots
    assert.deepEqual(
      [boot?.end, boot?.vdisk, boot?.versionId],
      ['poweroff', 'debian-12', opened.versionId],
    )
    assert.deepEqual(boot?.phases.map(({ phase }) => phase).sort(), [
      'attached',
      'identified',
      'shutdown',
    ])
    const shown = await server.run('client', 'show', client.id.slice(0, 6))
    assert.match(shown.stdout, /Last boots\n.*debian-12 {2}poweroff after/)
    const boots = await server.run('boots')
    assert.match(boots.stdout, /STARTED.*\n.*client-1 {2}debian-12 {2}poweroff/)
  })

  it('answers with what is wrong and status 1, or 2 when the command line is', async () => {
    await using folder = await createTemporaryFolder()
    await using server = await startServerProcess(join(folder.path, 'state'))
    const cases: [string[], number, RegExp][] = [
      [['vdisk', 'show', 'nope'], 1, /BW-E104 Cannot find vDisk "nope"/],
      [['vdisk', 'rm', 'nope'], 1, /BW-E104/],
      [['vdisk', 'import', '/nowhere.img'], 1, /BW-E201/],
      [['vdisk', 'import', '/nowhere.img', '--name', 'A b'], 2, /BW-E106 Cannot use "A b"/],
      [['client', 'show', 'nobody'], 1, /BW-E104 Cannot find client "nobody"/],
      [['boots', 'nobody'], 1, /BW-E104/],
      [['boots', '--limit', '0'], 2, /BW-E106/],
      [['client'], 2, /--help/],
      [['client', 'assign', 'x'], 2, /--help/],
      [['nonsense'], 2, /--help/],
      [['status', '--nonsense'], 2, /nonsense/],
    ]
    for (const [args, status, message] of cases) {
      const result = await server.run(...args)
      assert.equal(result.status, status, `${args.join(' ')}: ${result.stderr}`)
      assert.match(result.stderr, message)
      assert.doesNotMatch(result.stderr, /\n\s+at /, 'a stack trace')
      assert.equal(result.stdout, '')
    }
  })

  it('keeps a vDisk that clients are to boot, unless forced, and one that is read', async () => {
    await using folder = await createTemporaryFolder()
    const image = await createBootableImage(folder.path, 'one')
    await using server = await startServerProcess(
      join(folder.path, 'state'),
      '--unknown-clients',
      'vdisk:one',
    )
    assert.match(server.log(), /warn .*no vDisk "one"/)
    await server.run('vdisk', 'import', image, '--kernel-optional')
    const again = await server.run('vdisk', 'import', image, '--kernel-optional')
    assert.match(again.stdout, /^This image is one@1 already/)
    const agent = await TestAgent.connect(server.tlsPort)
    agent.say(hello())
    await agent.nextMessage('identity')
    agent.say({ kind: 'open', vdisk: 'one', firstPushBytes: 0 })
    await agent.nextMessage('opened')
    assert.match((await server.run('vdisk', 'rm', 'one')).stderr, /BW-E107.*assigned to client-1;/)
    assert.match((await server.run('vdisk', 'rm', 'one', '--force')).stderr, /BW-E107.*running/)
    assert.match((await server.run('client', 'rm', 'client-1')).stderr, /BW-E107/)
    agent.socket.close()
    await eventually('the client is off', async () => {
      const [client] = await server.json<ClientView[]>('client', 'ls')
      return client?.connection === 'off'
    })
    const back = await TestAgent.connect(server.tlsPort)
    back.say(hello({ bootId: 'c'.repeat(32) }))
    await back.nextMessage('identity')
    // Its former boot was lost; that it boots again says that nothing runs on it.
    assert.equal((await server.run('vdisk', 'rm', 'one', '--force')).status, 0)
    assert.deepEqual((await back.nextMessage('identity')).offers, []) // it waited for this very vDisk
    back.say({ kind: 'open', vdisk: 'one', firstPushBytes: 0 })
    assert.equal((await back.nextMessage('error')).code, 'VDISK_GONE')
    assert.deepEqual(await server.json<VDiskView[]>('vdisk', 'ls'), [])
  })

  it('refuses an image without a kernel, and leaves nothing of it', async () => {
    await using folder = await createTemporaryFolder()
    const image = await createBootableImage(folder.path, 'bare')
    await using server = await startServerProcess(join(folder.path, 'state'))
    const refused = await server.run('vdisk', 'import', image)
    assert.equal(refused.status, 1)
    assert.match(refused.stderr, /BW-E206.*no kernel.*--kernel-optional/)
    assert.deepEqual(await server.json<VDiskView[]>('vdisk', 'ls'), [])
    assert.equal((await server.run('vdisk', 'import', image, '--kernel-optional')).status, 0)
  })

  it('says why it takes no more of an image that is sent', async () => {
    await using folder = await createTemporaryFolder()
    await using server = await startServerProcess(join(folder.path, 'state'))
    // More than once: an answer that is lost with its connection is lost now and then.
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const { child, ended } = server.start('vdisk', 'import', '-', '--name', 'No Name!')
      const image = Readable.from(
        (function* () {
          for (;;) yield Buffer.alloc(65_536, 1)
        })(),
      )
      image.pipe(child.stdin)
      const { status, stderr } = await ended
      image.destroy()
      assert.match(stderr, /BW-E106 .*"No Name!"/)
      assert.equal(status, 2)
    }
  })

  it('completes names without running the command that is typed', async () => {
    await using folder = await createTemporaryFolder()
    const state = join(folder.path, 'state')
    await using server = await startServerProcess(state)
    const agent = await TestAgent.connect(server.tlsPort)
    agent.say(hello())
    await agent.nextMessage('identity')
    const complete = (...words: string[]) =>
      runBootwire('--get-yargs-completions', 'bootwire', '--state', state, ...words)
    assert.equal((await complete('client', 'approve', '')).stdout, 'client-1\n')
    assert.match((await complete('client', 'approve', 'client-1', '--')).stdout, /^--vdisk$/m)
    assert.match((await complete('vdisk', '')).stdout, /^import$/m)
    const [client] = await server.json<ClientView[]>('client', 'ls')
    assert.equal(client?.state, 'pending')
  })
})

describe('bootwire serve', TIMEOUT, () => {
  it('stops on SIGTERM with status 0, telling its agents', async () => {
    await using folder = await createTemporaryFolder()
    await using server = await startServerProcess(join(folder.path, 'state'))
    const agent = await TestAgent.connect(server.tlsPort)
    agent.say(hello())
    await agent.nextMessage('identity')
    assert.equal(await server.stop('SIGTERM'), 0)
    assert.equal((await agent.closed).code, 1001)
  })

  it('keeps identity, records and key when it is killed and started again', async () => {
    await using folder = await createTemporaryFolder()
    const state = join(folder.path, 'state')
    const image = await createBootableImage(folder.path, 'one')
    const args = ['--unknown-clients', 'vdisk:one'] as const
    await using before = await startServerProcess(state, ...args)
    await before.run('vdisk', 'import', image, '--kernel-optional')
    const agent = await TestAgent.connect(before.tlsPort)
    agent.say(hello())
    const identity = await agent.nextMessage('identity')
    agent.say({ kind: 'open', vdisk: 'one', firstPushBytes: 0 })
    const opened = await agent.nextMessage('opened')
    assert.equal(await before.stop('SIGKILL'), null)
    assert.equal((await agent.closed).code, 1006)

    await using after = await startServerProcess(state, ...args)
    assert.equal(after.pin, before.pin)
    const interrupted = await after.json<BootView[]>('boots')
    assert.deepEqual(
      interrupted.map(({ end }) => end),
      ['lost'],
    )
    const back = await TestAgent.connect(after.tlsPort)
    back.say(hello())
    const again = await back.nextMessage('identity')
    assert.deepEqual(
      [again.clientId, again.hostname, again.machineId],
      [identity.clientId, identity.hostname, identity.machineId],
    )
    back.say({ kind: 'open', vdisk: 'one', versionId: opened.versionId, firstPushBytes: 0 })
    assert.deepEqual(await back.nextMessage('opened'), opened)
    const boots = await after.json<BootView[]>('boots')
    assert.deepEqual(
      boots.map(({ end }) => end),
      ['running'],
    )
  })

  it('says that the database is in use when another server has the folder', async () => {
    await using folder = await createTemporaryFolder()
    const state = join(folder.path, 'state')
    await using server = await startServerProcess(state)
    const second = await runBootwire(
      'serve',
      '--state',
      state,
      '--http-port',
      '0',
      '--tls-port',
      '0',
    )
    assert.equal(second.status, 1)
    assert.match(
      second.stderr,
      /BW-E101 Cannot open the database in .*: another process has it open/,
    )
    const status = await server.json<StatusView>('status')
    assert.equal(status.pin, server.pin)
  })

  it('says which port is taken, and with which option to choose another', async () => {
    await using folder = await createTemporaryFolder()
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    const serve = ['serve', '--state', join(folder.path, 'state'), '--address', '127.0.0.1']
    for (const [option, other] of [
      ['--http-port', '--tls-port'],
      ['--tls-port', '--http-port'],
    ] as const) {
      const result = await runBootwire(...serve, option, String(port), other, '0')
      assert.equal(result.status, 1)
      assert.match(
        result.stderr,
        new RegExp(`BW-E102 Cannot listen on 127.0.0.1 port ${port} \\(${option}\\)`),
      )
    }
    taken.close()
  })

  it('opens its socket to its owner only, and takes over the socket of a killed server', async () => {
    await using folder = await createTemporaryFolder()
    const state = join(folder.path, 'state')
    await using killed = await startServerProcess(state)
    const socket = join(state, 'admin.sock')
    assert.equal((await stat(socket)).mode & 0o777, 0o600)
    await killed.stop('SIGKILL')
    const dead = await killed.run('status')
    assert.equal(dead.status, 1)
    assert.match(dead.stderr, /BW-E103 Cannot reach the server at .*admin\.sock.*not running/)
    await using server = await startServerProcess(state)
    assert.match((await server.run('status')).stdout, /unknown clients {2}approve/)
    assert.equal((await runBootwire('status', '--socket', socket)).status, 0)
    assert.equal(await server.stop('SIGTERM'), 0)
    await assert.rejects(stat(socket), { code: 'ENOENT' })
  })

  it('refuses wrong options and damaged state, in words', async () => {
    await using folder = await createTemporaryFolder()
    const state = join(folder.path, 'state')
    const wrong = await runBootwire('serve', '--state', state, '--unknown-clients', 'everyone')
    assert.equal(wrong.status, 2)
    assert.match(wrong.stderr, /BW-E106 Cannot use --unknown-clients "everyone"/)
    await using server = await startServerProcess(state)
    await server.stop('SIGTERM')
    await writeFile(join(state, 'db', 'CURRENT'), 'garbage\n')
    const damaged = await runBootwire(
      'serve',
      '--state',
      state,
      '--http-port',
      '0',
      '--tls-port',
      '0',
    )
    assert.equal(damaged.status, 1)
    assert.match(damaged.stderr, /BW-E109 Cannot open the database/)
  })

  it('logs JSON when asked', async () => {
    await using folder = await createTemporaryFolder()
    await using server = await startServerProcess(join(folder.path, 'state'), '--log-json')
    await server.stop('SIGTERM')
    for (const line of server.log().trim().split('\n')) JSON.parse(line)
    assert.match(server.log(), /"msg":"stopping"/)
  })
})
