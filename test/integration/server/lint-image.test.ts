import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { ImportResult, LintView } from '#server/admin/admin-api.ts'
import { BootFiles } from '#server/boot/boot-files.ts'
import { importImage } from '#server/import/import-image.ts'
import { type LintSource, lintImage } from '#server/import/lint-image.ts'
import { Spool } from '#server/import/spool.ts'
import type { LintReport } from '#server/lint/lint-report.ts'
import { silentLog } from '#server/log.ts'
import { LevelStateStore } from '#server/state/level-state-store.ts'
import { LINT_KEYS } from '#server/state/records.ts'
import { databaseFolder } from '#server/state/state-folder.ts'
import { ContentStore } from '#server/store/content-store.ts'
import { versionContent } from '#server/store/versions/version-content.ts'
import { MiB } from '#shared/units.ts'
import { makeDisk, makeExt4, makeMounted, makeSystem } from '#test/support/fake-system.ts'
import { signForTest } from '#test/support/memory-chunk-store.ts'
import { PLANTED, plant, plantSecrets, SECRET } from '#test/support/planted-secrets.ts'
import { startServerProcess } from '#test/support/server-process.ts'
import { createTemporaryFolder, type TemporaryFolder } from '#test/support/temporary-folder.ts'

const run = promisify(execFile)

const TIMEOUT = { timeout: 120_000 }
const EXT4_BYTES = 16 * MiB
const BTRFS_BYTES = 128 * MiB

describe('lintImage', TIMEOUT, () => {
  let temporary: TemporaryFolder
  let spool: Spool
  /** A bare ext4 with something of everything. */
  let full: string

  const path = (name: string) => join(temporary.path, name)

  before(async () => {
    temporary = await createTemporaryFolder()
    spool = await Spool.open(path('spool'))
    full = await imageOf('full', plantSecrets)
  })
  after(() => temporary[Symbol.asyncDispose]())

  const systemOf = async (name: string, fill: (folder: string) => Promise<void>) => {
    await mkdir(path(name))
    await makeSystem(path(name), { kernels: {} })
    await fill(path(name))
    return path(name)
  }

  const imageOf = async (name: string, fill: (folder: string) => Promise<void>) => {
    const image = path(`${name}.img`)
    await makeExt4(image, await systemOf(name, fill), EXT4_BYTES)
    return image
  }

  const lintIt = async (source: LintSource): Promise<LintReport> => {
    const { signal } = new AbortController()
    return await lintImage(source, { spool, log: silentLog(), report: () => undefined, signal })
  }

  it('finds what an image has, and leaves nothing behind', async () => {
    const report = await lintIt({ path: full })
    assert.deepEqual(pathsIn(report), PLANTED.map(({ path }) => path).sort())
    assert.deepEqual(report.incomplete, [])
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', full, path('full.qcow2')])
    assert.deepEqual(await lintIt({ path: path('full.qcow2') }), report)
    assert.deepEqual(await readdir(path('spool')), [])
    assert.equal((await run('losetup', ['--associated', full])).stdout, '')
  })

  it('finds the same in an image, in its import, and in the version that comes of it', async () => {
    const store = await ContentStore.open(path('state/store'), { sign: signForTest })
    await using _ = { [Symbol.asyncDispose]: () => store.close() }
    const bootFiles = await BootFiles.open(path('state'))
    const { signal } = new AbortController()
    const deps = { store, bootFiles, spool, log: silentLog() }
    const imported = await importImage({ path: full }, deps, () => undefined, signal)
    const reader = await store.openVersion(imported.committed.versionId)
    const { sizeBytes } = imported.committed
    const content = versionContent(reader, signal)
    const stored = await lintIt({ content, sizeBytes, name: 'full@1', root: imported.root })
    await reader.close()
    assert.deepEqual(imported.lint, await lintIt({ path: full }))
    assert.deepEqual(stored, imported.lint)
    assert.deepEqual(await readdir(path('spool')), [])
  })

  it('is not led to files of the server by an image', async () => {
    await plant(temporary.path, 'outside/ssh_host_x_key', 'of the server')
    const image = await imageOf('hostile', async (folder) => {
      await symlink(path('outside'), join(folder, 'etc/ssh'))
      await symlink('/proc/self/root/etc/shadow', join(folder, 'etc/shadow'))
      await symlink('/', join(folder, 'root'))
      await run('mknod', [join(folder, 'etc/machine-id'), 'c', '1', '5'])
      await run('mkfifo', [join(folder, 'etc/krb5.keytab')])
    })
    assert.deepEqual(await lintIt({ path: image }), { findings: [], incomplete: [] })
  })

  it('looks at homes on a partition of their own, and says which partition it did not look at', async () => {
    await mkdir(path('homes'))
    await plant(path('homes'), 'ann/.bash_history', SECRET)
    const [home, other] = [path('home-part.img'), path('other-part.img')]
    await makeExt4(home, path('homes'), EXT4_BYTES)
    await run('e2label', [home, 'homes'])
    await makeExt4(other, path('homes'), EXT4_BYTES)
    const root = await imageOf('root', async (folder) => {
      await writeFile(join(folder, 'etc/fstab'), 'LABEL=homes /home ext4 defaults 0 2\n')
    })
    const sizeBytes = EXT4_BYTES
    const partitions = [root, home, other].map((image) => ({ image, sizeBytes }))
    await makeDisk(path('parted.img'), 'gpt', partitions)
    const report = await lintIt({ path: path('parted.img') })
    assert.deepEqual(pathsIn(report), ['/home/ann/.bash_history'])
    assert.deepEqual(report.incomplete, ['Not looked into: partition 3 (ext4)'])
  })

  it('looks at homes in a subvolume of btrfs', async () => {
    const folder = await systemOf('subvolumes', async (folder) => {
      await plant(folder, 'home/ann/.bash_history', SECRET)
    })
    const image = path('btrfs.img')
    const uuid = 'UUID=$(blkid -o value -s UUID "$2")'
    const script = `btrfs -q subvolume create @ >/dev/null; btrfs -q subvolume create @home >/dev/null
      cp -a "$1"/. @/; mv @/home/* @home/
      echo "${uuid} /home btrfs subvol=@home 0 0" >@/etc/fstab`
    await makeMounted(image, 'btrfs', BTRFS_BYTES, { folder, script })
    const report = await lintIt({ path: image })
    assert.deepEqual(pathsIn(report), ['/home/ann/.bash_history'])
    assert.deepEqual(report.incomplete, [])
  })

  it('goes on where the file system is damaged, and says so; its import does, too', async () => {
    const image = await imageOf('damaged', async (folder) => {
      await plant(folder, 'etc/fstab', 'x'.repeat(100_000))
      await plant(folder, 'home/ann/.ssh/id_rsa', SECRET)
      await plant(folder, 'home/bob/.ssh/id_rsa', SECRET)
    })
    const reasons = ['/home/ann/.ssh', '/etc/fstab']
    for (const path of reasons) await run('debugfs', ['-w', '-R', `clri ${path}`, image])
    const expected = {
      paths: ['/home/bob/.ssh/id_rsa'],
      incomplete: ['Files and folders that could not be read: 2'],
    }
    const report = await lintIt({ path: image })
    assert.deepEqual({ paths: pathsIn(report), incomplete: report.incomplete }, expected)
    const store = await ContentStore.open(path('damaged-state/store'), { sign: signForTest })
    const bootFiles = await BootFiles.open(path('damaged-state'))
    const deps = { store, bootFiles, spool, log: silentLog() }
    const { signal } = new AbortController()
    const imported = await importImage({ path: image }, deps, () => undefined, signal)
    await store.close()
    assert.deepEqual(imported.lint, report)
  })

  it('says what is wrong with an image', async () => {
    await assert.rejects(lintIt({ path: path('nowhere') }), {
      code: 'IMAGE_MISSING',
      message: /^Cannot use ".*nowhere": there is no such file/,
    })
    await assert.rejects(lintIt({ path: full, rootPartition: 2 }), { code: 'IMAGE_NOT_BOOTABLE' })
  })

  it('is bootwire vdisk lint, and what an import warns of', async () => {
    const clean = await imageOf('clean', async (folder) => {
      await plant(folder, '/etc/machine-id', '0123456789abcdef0123456789abcdef\n')
    })
    const state = path('server')
    {
      await using server = await startServerProcess(state)
      const take = ['vdisk', 'import', full, '--name', 'full', '--kernel-optional']
      const { status, stderr } = await server.run(...take)
      assert.equal(status, 0)
      assert.match(
        stderr,
        /^warning: secret: .*: \/etc\/shadow \(root, ann\) and 1 other\. Take it out/m,
      )
      assert.match(
        stderr,
        /^warning: All that was found \(\d+ secrets, \d identities, \d hints\): .* full@1$/m,
      )
      assert.doesNotMatch(stderr, /^warning: hint/m)
      assert.ok(!stderr.includes(SECRET.slice(0, 8)))
      const again = await server.json<ImportResult>(...take)
      const linted = await server.run('vdisk', 'lint', 'full@1', '--json')
      assert.equal(linted.status, 3)
      assert.deepEqual(JSON.parse(linted.stdout), { subject: 'full@1', ...again.lint })
      const before = await server.run('vdisk', 'lint', '--file', clean)
      assert.equal(before.status, 0)
      assert.match(before.stdout, /clean\.img: 1 identity\n\nidentity: machine-id .*\n {2}\/etc/)
      assert.equal((await server.run('vdisk', 'lint')).status, 2)
      assert.equal((await server.run('vdisk', 'lint', 'full', '--file', clean)).status, 2)
      assert.equal((await server.run('vdisk', 'lint', 'nothing')).status, 1)
      await server.stop('SIGTERM')
    }
    // As of an import before there were rules.
    const store = await LevelStateStore.open(databaseFolder(state))
    const kept = await store.range(LINT_KEYS)
    assert.equal(kept.length, 1)
    await store.transact(
      [],
      kept.map(({ key }) => ({ type: 'delete', key })),
    )
    await store.close()
    await using server = await startServerProcess(state)
    const unpacked = await server.run('vdisk', 'lint', 'full', '--json')
    assert.deepEqual([unpacked.status, /unpacking/.test(unpacked.stderr)], [3, true])
    const view: LintView = JSON.parse(unpacked.stdout)
    assert.deepEqual(pathsIn(view), PLANTED.map(({ path }) => path).sort())
    const fromKept = await server.run('vdisk', 'lint', 'full', '--json')
    assert.deepEqual([fromKept.stdout, fromKept.stderr], [unpacked.stdout, ''])
    await server.run('vdisk', 'rm', 'full')
    await server.stop('SIGTERM')
    const emptied = await LevelStateStore.open(databaseFolder(state))
    assert.deepEqual(await emptied.range(LINT_KEYS), [])
    await emptied.close()
  })
})

function pathsIn({ findings }: LintReport): string[] {
  return findings.flatMap(({ places }) => places.map(({ path }) => path)).sort()
}
