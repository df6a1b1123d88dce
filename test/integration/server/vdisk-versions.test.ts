import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type {
  CheckView,
  ClientView,
  ImportResult,
  TraceView,
  VDiskView,
  VersionView,
} from '#server/admin/admin-api.ts'
import { MiB } from '#shared/units.ts'
import { hello } from '#test/support/agent-messages.ts'
import { createBootableImage } from '#test/support/bootable-image.ts'
import { eventually } from '#test/support/eventually.ts'
import { type ServerProcess, startServerProcess } from '#test/support/server-process.ts'
import { TestAgent } from '#test/support/stream-fixture.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const run = promisify(execFile)

const TIMEOUT = { timeout: 300_000 }

async function filesBelow(folder: string): Promise<string[]> {
  return await readdir(folder).catch(() => [])
}

/** A bootable image with as much on it that does not compress. */
async function largeImage(folder: string, name: string, sizeBytes: number): Promise<string> {
  const image = await createBootableImage(folder, name)
  const partition = await open(image, 'r+')
  // Behind the file system, which an image may have room for.
  for (let at = 16 * MiB; at < sizeBytes; at += MiB) {
    await partition.write(randomBytes(MiB), 0, MiB, at)
  }
  await partition.close()
  return image
}

describe('versions of a vDisk', TIMEOUT, () => {
  let temporary: TemporaryFolder
  let server: ServerProcess
  const images: string[] = []

  before(async () => {
    temporary = await createTemporaryFolder()
    for (const name of ['one', 'two', 'three']) {
      images.push(await createBootableImage(temporary.path, name))
    }
    const state = join(temporary.path, 'state')
    server = await startServerProcess(state, '--unknown-clients', 'vdisk:os')
  })

  after(async () => {
    await server[Symbol.asyncDispose]()
    await temporary[Symbol.asyncDispose]()
  })

  const importIt = async (index: number, ...args: string[]) => {
    const image = images[index] ?? ''
    return await server.run('vdisk', 'import', image, '--name', 'os', '--kernel-optional', ...args)
  }
  const state = async () => {
    const versions = await server.json<VersionView[]>('vdisk', 'versions', 'os')
    const texts = versions.map((it) => `${it.number}${it.isInProduction ? '*' : ''}`)
    return texts.toReversed().join(' ')
  }
  const boot = async (bootId: string, mac: string, versionId?: string) => {
    const agent = await TestAgent.connect(server.tlsPort)
    agent.say(hello({ bootId, mac }))
    await agent.nextMessage('identity')
    const opening = { kind: 'open', vdisk: 'os', firstPushBytes: 0 } as const
    agent.say(versionId === undefined ? opening : { ...opening, versionId })
    return { agent, opened: await agent.nextMessage('opened') }
  }

  it('are imported, promoted and rolled back, and running clients keep theirs', async () => {
    assert.match(
      (await importIt(0)).stdout,
      /^vDisk os, imported in .*\n {2}version {2,}1, [0-9a-f]{64}\n/,
    )
    const { agent: first, opened: running } = await boot('a'.repeat(32), '52:54:00:00:00:01')
    const second = await importIt(1)
    assert.match(second.stdout, /^os@2, a new version of vDisk os/)
    assert.match(second.stdout, /next boots get os@1 still.*bootwire vdisk promote os 2\n$/)
    assert.equal(await state(), '1* 2')
    const unpromoted = await boot('b'.repeat(32), '52:54:00:00:00:02')
    assert.equal(unpromoted.opened.versionId, running.versionId)
    const promoted = await server.run('vdisk', 'promote', 'os@2')
    assert.match(promoted.stdout, /^The next boots get os@2 instead of os@1; running clients keep/)
    assert.equal(await state(), '1 2*')
    const next = await boot('c'.repeat(32), '52:54:00:00:00:03')
    assert.notEqual(next.opened.versionId, running.versionId)

    // The client's connection breaks: its root is on version 1, and so it stays.
    first.socket.terminate()
    await eventually('the connection is seen to be lost', async () => {
      const clients = await server.json<ClientView[]>('client', 'ls')
      return clients.find(({ hostname }) => hostname === 'client-1')?.connection === 'off'
    })
    const refused = await server.run('vdisk', 'rm', 'os@1')
    assert.equal(refused.status, 1)
    assert.match(refused.stderr, /BW-E107 Cannot remove version 1 of vDisk "os": .*client-1 \(conn/)
    assert.match(refused.stderr, /client-2/)
    const back = await boot('a'.repeat(32), '52:54:00:00:00:01', running.versionId)
    assert.equal(back.opened.versionId, running.versionId)
    const forced = await server.run('vdisk', 'rm', 'os@1', '--force')
    assert.match(forced.stderr, /BW-E107.*running clients read it: client-1, client-2\n/)

    assert.match((await server.run('vdisk', 'rm', 'os@2')).stderr, /BW-E107.*in production/)
    const rolledBack = await server.run('vdisk', 'rollback', 'os')
    assert.match(rolledBack.stdout, /^The next boots get os@1 instead of os@2/)
    assert.match((await server.run('vdisk', 'rollback', 'os')).stderr, /BW-E104.*Cannot roll/)
    const shown = await server.run('vdisk', 'show', 'os')
    assert.match(shown.stdout, /In production\n.*version 1, by rollback\n.*version 2, by promote\n/)
    for (const { agent } of [unpromoted, next, back]) {
      agent.say({ kind: 'bye', reason: 'poweroff' })
      await agent.closed
    }
    assert.equal(
      (await server.run('vdisk', 'rm', 'os@2')).stdout,
      'Removed version 2 of vDisk os\n',
    )
    assert.equal(await state(), '1*')
  })

  it('get numbers of their own when several are imported at once, none twice', async () => {
    const results = await Promise.all([importIt(1), importIt(2, '--promote'), importIt(0)])
    for (const { status, stderr } of results) assert.equal(status, 0, stderr)
    assert.match(results[2].stdout, /^This image is os@1 already/)
    assert.match(await state(), /^1 (3\* 4|3 4\*)$/)
    const table = await server.run('vdisk', 'versions', 'os')
    assert.match(table.stdout, /^NUMBER +ID +IMPORTED +SIZE +STORED +SHARED +SYSTEM/)
    assert.match(table.stdout, /\n1 .*Test Linux 1.* -\n$/)
  })

  it('come back as they were imported, to a file and through a pipe', async () => {
    const file = join(temporary.path, 'out.img')
    const original = await readFile(images[0] ?? '')
    const exported = await server.run('vdisk', 'export', 'os@1', file)
    assert.equal(exported.status, 0, exported.stderr)
    assert.match(exported.stderr, /Exported os@1: 16\.0 MiB in /)
    assert.ok((await readFile(file)).equals(original))
    assert.ok((await stat(file)).blocks * 512 < original.length / 4, 'zeros are holes')
    const again = await server.run('vdisk', 'export', 'os@1', file)
    assert.equal(again.status, 1)
    assert.match(again.stderr, /BW-E105 .*out\.img": it is there already; --force replaces it/)
    assert.equal((await server.run('vdisk', 'export', 'os', file, '--force')).status, 0)
    const promoted = await readFile(file)
    assert.ok(promoted.equals(await readFile(images[2] ?? '')), 'the one in production')
    const { bytes } = await server.run('vdisk', 'export', 'os@1', '-')
    assert.ok(bytes.equals(original))
    assert.deepEqual(
      (await readdir(temporary.path)).filter((name) => name.includes('partial')),
      [],
    )
  })

  it('are exported onto a device only when forced, and nowhere that is no place', async () => {
    const disk = join(temporary.path, 'disk')
    await writeFile(disk, Buffer.alloc(20 * MiB, 7))
    const device = (await run('losetup', ['--find', '--show', disk])).stdout.trim()
    try {
      const refused = await server.run('vdisk', 'export', 'os@1', device)
      assert.match(refused.stderr, /BW-E105 .*block device/)
      const exported = await server.run('vdisk', 'export', 'os@1', device, '--force')
      assert.equal(exported.status, 0, exported.stderr)
    } finally {
      await run('losetup', ['--detach', device])
    }
    const original = await readFile(images[0] ?? '')
    const written = await readFile(disk)
    assert.ok(written.subarray(0, original.length).equals(original), 'zeros are written, too')
    assert.equal(written.at(-1), 7)
    const cases: [string, RegExp][] = [
      [join(temporary.path, 'no/such/folder'), /BW-E106 .*no such folder/],
      [temporary.path, /BW-E106 .*it is a folder/],
    ]
    for (const [path, message] of cases) {
      assert.match((await server.run('vdisk', 'export', 'os@1', path)).stderr, message)
    }
    const unknown = await server.run('vdisk', 'export', 'os@99', join(temporary.path, 'none'))
    assert.match(unknown.stderr, /BW-E104 Cannot find version "99" of vDisk "os"/)
    assert.ok(!(await readdir(temporary.path)).some((name) => name.startsWith('none')))
  })

  it('are told with what their boots read', async () => {
    const view = await server.json<TraceView>('vdisk', 'trace', 'os')
    assert.ok(['guessed', 'none'].includes(view.source), view.source)
    const svg = join(temporary.path, 'boot.svg')
    const shown = await server.run('vdisk', 'trace', 'os', '--ascii', '--svg', svg)
    assert.equal(shown.status, 0, shown.stderr)
    assert.match(shown.stdout, /^Boot of os@\d\n {2}source/)
    assert.match(await readFile(svg, 'utf8'), /^<svg /)
    const forgotten = await server.json<TraceView>('vdisk', 'trace', 'os@1', '--forget')
    assert.equal(forgotten.number, 1)
  })

  it('are checked, and damage is an exit status', async () => {
    const healthy = await server.run('check', '--read-data')
    assert.equal(healthy.status, 0, healthy.stderr)
    assert.match(healthy.stdout, /^Checked 3 versions, .*\nNo damage found\n$/)
    assert.match((await server.run('gc')).stdout, /^(Nothing to free|Freed )/)
    const packs = join(temporary.path, 'state/store/packs')
    for (const name of await readdir(packs)) {
      const path = join(packs, name)
      const bytes = await readFile(path)
      bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] ?? 0) ^ 0xff
      await writeFile(path, bytes)
    }
    const damaged = await server.run('check', '--read-data', '--json')
    assert.equal(damaged.status, 1)
    const report = JSON.parse(damaged.stdout) as CheckView
    assert.ok(report.damages.length > 0)
    assert.match(report.damages.flatMap(({ versions }) => versions).join(), /os@\d/)
    const text = await server.run('check', '--read-data')
    assert.match(text.stdout, /\ndamaged: .*\n {2}in os@[^]*found\. .*bootwire check --repair\n$/)
    assert.match((await server.run('check', '--read-data=7')).stderr, /BW-E106 .*such as 5%/)
  })
})

describe('an import', TIMEOUT, () => {
  let temporary: TemporaryFolder
  let image: string
  before(async () => {
    temporary = await createTemporaryFolder()
    image = await createBootableImage(temporary.path, 'one')
  })
  after(async () => temporary[Symbol.asyncDispose]())

  const path = (name: string) => join(temporary.path, name)

  it('of any format is exported as the raw disk it was made of', async () => {
    await using server = await startServerProcess(path('formats'))
    const original = await readFile(image)
    await mkdir(path('disks'))
    for (const [format, ...options] of [
      ['qcow2'],
      ['vmdk'],
      ['vpc', '-o', 'force_size=on'],
      ['vhdx'],
      ['vdi'],
      ['raw'],
    ] as const) {
      const file = path(`disks/${format}`)
      await run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...options, image, file])
      const imported = await server.run('vdisk', 'import', file, '--kernel-optional', '--json')
      assert.equal(imported.status, 0, imported.stderr)
      const { vdisk } = JSON.parse(imported.stdout) as ImportResult
      const { bytes } = await server.run('vdisk', 'export', vdisk.name, '-')
      assert.ok(bytes.equals(original), format)
    }
    const vdisks = await server.json<VDiskView[]>('vdisk', 'ls')
    const ids = new Set(vdisks.map(({ productionVersionId }) => productionVersionId))
    assert.deepEqual([vdisks.length, ids.size], [6, 1], 'one version, stored once')
    assert.deepEqual(await filesBelow(path('formats/spool')), [])
  })

  it('comes from standard input, and from a pipe of the shell', async () => {
    await using server = await startServerProcess(path('stdin'))
    const unnamed = await server.run('vdisk', 'import', '-')
    assert.equal(unnamed.status, 2)
    assert.match(unnamed.stderr, /Expected --name/)
    const { child, ended } = server.start(
      'vdisk',
      'import',
      '-',
      '--name',
      'x',
      '--kernel-optional',
    )
    child.stdin.end(await readFile(image))
    const piped = await ended
    assert.equal(piped.status, 0, piped.stderr)
    const fifo = path('fifo')
    await run('mkfifo', [fifo])
    const writing = run('sh', ['-c', 'cat "$1" >"$2"', 'sh', image, fifo])
    const again = await server.run('vdisk', 'import', fifo, '--name', 'x', '--kernel-optional')
    await writing
    assert.match(again.stdout, /^This image is x@1/)
    const empty = server.start('vdisk', 'import', '-', '--name', 'y')
    empty.child.stdin.end()
    assert.match((await empty.ended).stderr, /BW-E202 Cannot use "standard input": it has 0 bytes/)
  })

  it('is canceled by Ctrl-C, and leaves nothing', async () => {
    await using server = await startServerProcess(path('canceled'))
    const { child, ended, said } = server.start('vdisk', 'import', '-', '--name', 'x')
    child.stdin.write(randomBytes(MiB))
    await eventually('the server receives it', () => said().includes('receiving'))
    child.kill('SIGINT')
    const { status, stderr } = await ended
    assert.equal(status, 130)
    assert.match(stderr, /bootwire: canceled\n$/)
    const spool = path('canceled/spool')
    await eventually('nothing is left of it', async () => (await filesBelow(spool)).length === 0)
    assert.match(server.log(), /import failed/)
  })

  it('that dies with its server leaves nothing, and works at the next try', async () => {
    const state = path('killed')
    const large = await largeImage(temporary.path, 'large', 192 * MiB)
    const killedAt = async (
      stage: string,
      begin: (server: ServerProcess) => ReturnType<ServerProcess['start']>,
    ) => {
      await using server = await startServerProcess(state)
      const { ended, said } = begin(server)
      await eventually(`it comes to ${stage}`, () => said().includes(stage), 60_000)
      await server.stop('SIGKILL')
      const { status, stderr } = await ended
      assert.equal(status, 1)
      assert.match(stderr, /BW-E103 .*the server stopped/)
    }
    await killedAt('storing', (server) =>
      server.start('vdisk', 'import', large, '--kernel-optional'),
    )
    await killedAt('receiving', (server) => {
      const command = server.start('vdisk', 'import', '-', '--name', 'large')
      command.child.stdin.write(randomBytes(MiB))
      return command
    })
    await using server = await startServerProcess(state)
    assert.deepEqual(await filesBelow(join(state, 'spool')), [])
    assert.deepEqual(await server.json<VDiskView[]>('vdisk', 'ls'), [])
    await server.run('gc')
    const packs = await readdir(join(state, 'store/packs'))
    const left = await Promise.all(
      packs.map(async (it) => (await stat(join(state, 'store/packs', it))).size),
    )
    assert.ok(left.reduce((sum, size) => sum + size, 0) < 4 * MiB, 'what it stored is freed')
    const imported = await server.run('vdisk', 'import', large, '--kernel-optional')
    assert.equal(imported.status, 0, imported.stderr)
    assert.equal((await server.run('check', '--read-data')).status, 0)
    const { bytes } = await server.run('vdisk', 'export', 'large', '-')
    assert.ok(bytes.equals(await readFile(large)))
  })

  it('is followed by an export that leaves no part of a file when the server dies', async () => {
    const state = path('killed') // with the large vDisk
    await using server = await startServerProcess(state)
    const fifo = path('slow')
    await run('mkfifo', [fifo])
    const out = path('out')
    await mkdir(out)
    // The reader of the pipe stalls, so the server is in the middle of it.
    const { ended } = server.start('vdisk', 'export', 'large', fifo)
    const reader = await open(fifo)
    await reader.read(Buffer.alloc(4096))
    const exporting = server.start('vdisk', 'export', 'large', join(out, 'file'))
    await eventually('a part is there', async () => (await readdir(out)).length > 0)
    await server.stop('SIGKILL')
    await reader.close()
    assert.notEqual((await ended).status, 0)
    const { status } = await exporting.ended
    const left = await readdir(out)
    assert.deepEqual(left, status === 0 ? ['file'] : [])
  })

  it('through a pipe ends when nobody reads it', async () => {
    await using server = await startServerProcess(path('killed'))
    const { child, ended } = server.start('vdisk', 'export', 'large', '-')
    await once(child.stdout, 'data')
    child.stdout.destroy()
    const { status, stderr } = await ended
    assert.equal(status, 1, stderr)
    assert.match(stderr, /bootwire: nobody reads standard output any more\n$/)
  })
})
