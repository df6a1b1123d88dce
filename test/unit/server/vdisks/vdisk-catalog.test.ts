import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LOST_BOOT_GRACE_MS } from '#server/clients/version-users.ts'
import type { NewVersion } from '#server/vdisks/vdisk.ts'
import { productionOf } from '#server/vdisks/vdisk-catalog.ts'
import { createTestCore, imageOf, type TestCore } from '#test/support/server-core.ts'

const KERNEL_A = { id: 'aa'.repeat(32), release: '6.1.0' }

/** Registers what an import would, and says what became of it. */
async function importImage(
  core: TestCore,
  name: string,
  content: string,
  more: Partial<NewVersion> = {},
) {
  const committed = core.chunkStore.add(imageOf(content))
  const root = { partition: 1, fsType: 'ext4', options: '' }
  return await core.catalog.register({ name, committed, root, osName: 'Test 1', ...more })
}

/** `1 2* 3`: the numbers of the versions, the one in production marked. */
async function versionsOf({ catalog }: TestCore, name: string): Promise<string> {
  const { record, versions } = await catalog.get(name)
  const shown = versions.map(({ number, versionId }) =>
    versionId === record.productionVersionId ? `${number}*` : String(number),
  )
  return shown.toReversed().join(' ')
}

async function bootOn(core: TestCore, vdisk: string, versionId: string, mac = 1) {
  const macs = [`52:54:00:00:00:0${mac}`]
  const client = await core.registry.identify({ macs }, '192.0.2.1')
  const boot = await core.boots.begin(client.id)
  boot.opened(vdisk, versionId)
  return boot
}

describe('register() and list()', () => {
  it('show a vDisk with its version under its name', async () => {
    const core = createTestCore()
    const versionId = await core.addVDisk('debian', imageOf('debian'), KERNEL_A)
    const vdisk = await core.catalog.get('debian')
    assert.equal(vdisk.record.productionVersionId, versionId)
    assert.deepEqual(
      vdisk.versions.map((version) => [version.number, version.kernel]),
      [[1, KERNEL_A]],
    )
    assert.deepEqual(
      (await core.catalog.list()).map(({ record }) => record.name),
      ['debian'],
    )
    assert.equal(productionOf(vdisk)?.versionId, versionId)
  })

  it('keep vDisks apart whose names begin alike', async () => {
    const core = createTestCore()
    await core.addVDisk('debian')
    await core.addVDisk('debian-12')
    assert.equal((await core.catalog.get('debian')).versions.length, 1)
    await core.catalog.remove('debian')
    assert.equal((await core.catalog.get('debian-12')).versions.length, 1)
  })
})

describe('register() of a name that is there', () => {
  it('makes the next version, which is not in production', async () => {
    const core = createTestCore()
    const first = await importImage(core, 'debian', 'one', { title: 'Debian' })
    const second = await importImage(core, 'debian', 'two')
    assert.deepEqual([first.outcome, second.outcome], ['created', 'added'])
    assert.equal(await versionsOf(core, 'debian'), '1* 2')
    assert.equal((await core.catalog.get('debian')).record.title, 'Debian')
  })

  it('puts it in production when told, and sets a title that is given', async () => {
    const core = createTestCore()
    await importImage(core, 'debian', 'one')
    await importImage(core, 'debian', 'two', { promote: true, title: 'Debian, May' })
    assert.equal(await versionsOf(core, 'debian'), '1 2*')
    assert.equal((await core.catalog.get('debian')).record.title, 'Debian, May')
  })

  it('changes nothing when it is the same image, but promotes it when told', async () => {
    const core = createTestCore()
    await importImage(core, 'debian', 'one')
    await importImage(core, 'debian', 'two')
    const { writes } = core.store
    const again = await importImage(core, 'debian', 'two')
    assert.deepEqual([again.outcome, again.version.number], ['unchanged', 2])
    assert.equal(core.store.writes, writes)
    const promoted = await importImage(core, 'debian', 'two', { promote: true })
    assert.equal(promoted.outcome, 'unchanged')
    assert.equal(await versionsOf(core, 'debian'), '1 2*')
  })

  it('takes another root or kernel found in the same image', async () => {
    const core = createTestCore()
    const first = await importImage(core, 'debian', 'one')
    core.clock.nowMs += 1000
    const root = { partition: 3, fsType: 'xfs', options: '' }
    const again = await importImage(core, 'debian', 'one', { root, kernel: KERNEL_A })
    assert.equal(again.outcome, 'updated')
    assert.deepEqual([again.version.root, again.version.kernel], [root, KERNEL_A])
    assert.equal(again.version.createdAtMs, first.version.createdAtMs)
    assert.equal(await versionsOf(core, 'debian'), '1*')
  })

  it('gives each of several at once a number of its own, and none twice', async () => {
    const core = createTestCore()
    const contents = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
    await Promise.all(contents.map((content) => importImage(core, 'debian', content)))
    assert.match(await versionsOf(core, 'debian'), /^1\* 2 3 4 5 6 7 8$/)
    await core.catalog.removeVersion('debian', '8')
    await importImage(core, 'debian', 'i')
    assert.equal(await versionsOf(core, 'debian'), '1* 2 3 4 5 6 7 9')
  })

  it('keeps the versions of two vDisks of the same image apart', async () => {
    const core = createTestCore()
    const one = await importImage(core, 'one', 'same')
    await importImage(core, 'two', 'other')
    const two = await importImage(core, 'two', 'same')
    assert.equal(one.version.versionId, two.version.versionId)
    assert.deepEqual([one.version.number, two.version.number], [1, 2])
  })
})

describe('promote() and rollback()', () => {
  it('decide which version the next boots get', async () => {
    const core = createTestCore()
    const { catalog } = core
    for (const content of ['a', 'b', 'c']) await importImage(core, 'v', content)
    const changed: string[] = []
    catalog.changes.subscribe((name) => changed.push(name))
    const promoted = await catalog.promote('v', '3')
    assert.deepEqual([promoted.before?.number, promoted.version.number], [1, 3])
    await catalog.promote('v', '2')
    assert.equal(await versionsOf(core, 'v'), '1 2* 3')
    assert.equal((await catalog.rollback('v')).version.number, 3)
    const back = await catalog.rollback('v')
    assert.deepEqual([back.before?.number, back.version.number], [3, 1])
    await assert.rejects(catalog.rollback('v'), { code: 'NOT_FOUND', message: /promote v VERSION/ })
    assert.equal(await versionsOf(core, 'v'), '1* 2 3')
    assert.deepEqual(changed, ['v', 'v', 'v', 'v'])
  })

  it('take the beginning of an id, and say when there is none', async () => {
    const core = createTestCore()
    await importImage(core, 'v', 'a')
    const { version } = await importImage(core, 'v', 'b')
    await core.catalog.promote('v', version.versionId.slice(0, 12))
    assert.equal(await versionsOf(core, 'v'), '1 2*')
    await assert.rejects(core.catalog.promote('v', '3'), { code: 'NOT_FOUND' })
    await assert.rejects(core.catalog.promote('w', '1'), { code: 'NOT_FOUND' })
  })

  it('change nothing when it is in production already', async () => {
    const core = createTestCore()
    await importImage(core, 'v', 'a')
    const { writes } = core.store
    const { before, version } = await core.catalog.promote('v', '1')
    assert.deepEqual([before?.number, version.number, core.store.writes], [1, 1, writes])
  })

  it('never put a version in production that is removed at the same moment', async () => {
    for (let round = 0; round < 20; round += 1) {
      const core = createTestCore()
      for (const content of ['a', 'b']) await importImage(core, 'v', content)
      await Promise.allSettled([
        core.catalog.promote('v', '2'),
        core.catalog.removeVersion('v', '2'),
      ])
      assert.match(await versionsOf(core, 'v'), /^(1\*|1 2\*)$/)
    }
  })
})

describe('find()', () => {
  it('is the version in production unless another is named', async () => {
    const core = createTestCore()
    for (const content of ['a', 'b']) await importImage(core, 'v', content)
    assert.equal((await core.catalog.find('v', undefined)).number, 1)
    assert.equal((await core.catalog.find('v', '2')).number, 2)
    await assert.rejects(core.catalog.find('v', '9'), { code: 'NOT_FOUND' })
    await assert.rejects(core.catalog.find('w', undefined), { code: 'NOT_FOUND' })
  })
})

describe('remove() and removeVersion()', () => {
  it('remove records, data and boot files', async () => {
    const core = createTestCore()
    core.kernels.add(KERNEL_A.id)
    await core.addVDisk('debian', imageOf('debian'), KERNEL_A)
    await importImage(core, 'debian', 'two')
    await core.catalog.remove('debian')
    assert.equal(await core.catalog.tryGet('debian'), undefined)
    assert.deepEqual([await core.chunkStore.listVersions(), core.kernels.size], [[], 0])
    await assert.rejects(core.catalog.remove('debian'), { code: 'NOT_FOUND' })
  })

  it('remove one version with its data, and free space after', async () => {
    const core = createTestCore()
    const first = await importImage(core, 'v', 'a')
    await importImage(core, 'v', 'b')
    let collected = 0
    core.chunkStore.collectGarbage = async () => {
      collected += 1
      return { removedChunks: 1, removedBytes: 1, keptDeadBytes: 0 }
    }
    assert.equal((await core.catalog.removeVersion('v', '2')).number, 2)
    await core.catalog.garbage.idle()
    assert.deepEqual(await core.chunkStore.listVersions(), [first.version.versionId])
    assert.deepEqual([await versionsOf(core, 'v'), collected], ['1*', 1])
  })

  it('refuse the version in production', async () => {
    const core = createTestCore()
    await importImage(core, 'v', 'a')
    const removing = core.catalog.removeVersion('v', '1', { force: true })
    await assert.rejects(removing, { code: 'IN_USE', message: /version 1 of vDisk "v".*promote/ })
  })

  it('keep data and boot files another vDisk still has', async () => {
    const core = createTestCore()
    core.kernels.add(KERNEL_A.id)
    const image = imageOf('same')
    const versionId = await core.addVDisk('one', image, KERNEL_A)
    await core.addVDisk('two', image, KERNEL_A)
    await core.catalog.remove('one')
    assert.deepEqual(await core.chunkStore.listVersions(), [versionId])
    assert.deepEqual([...core.kernels], [KERNEL_A.id])
    assert.equal((await core.catalog.version('two', versionId))?.vdisk, 'two')
  })

  it('refuse while the root of a client is on it, and say whose', async () => {
    const core = createTestCore()
    await importImage(core, 'v', 'a')
    const { version } = await importImage(core, 'v', 'b')
    const boot = await bootOn(core, 'v', version.versionId)
    const removing = [
      core.catalog.removeVersion('v', '2', { force: true }),
      core.catalog.remove('v', { force: true }),
    ]
    for (const attempt of removing) {
      await assert.rejects(attempt, { code: 'IN_USE', message: /running clients.*: client-1$/ })
    }
    assert.equal(await versionsOf(core, 'v'), '1* 2')
    await core.boots.end(boot, 'poweroff')
    await core.catalog.removeVersion('v', '2')
  })

  it('refuse while a client may be back, unless forced or a day has passed', async () => {
    for (const way of ['force', 'wait', 'next boot'] as const) {
      const core = createTestCore()
      await importImage(core, 'v', 'a')
      const { version } = await importImage(core, 'v', 'b')
      await core.boots.end(await bootOn(core, 'v', version.versionId), 'lost')
      core.clock.nowMs += 5 * 60_000
      await assert.rejects(core.catalog.removeVersion('v', '2'), {
        code: 'IN_USE',
        message: /client-1 \(connection lost 5 min ago\); --force if they are off/,
      })
      if (way === 'wait') core.clock.nowMs += LOST_BOOT_GRACE_MS
      if (way === 'next boot') await bootOn(core, 'v', 'cc')
      await core.catalog.removeVersion('v', '2', { force: way === 'force' })
      assert.equal(await versionsOf(core, 'v'), '1*', way)
    }
  })

  it('put the records back when a client opened the version at the same moment', async () => {
    const core = createTestCore()
    await importImage(core, 'v', 'a')
    const { version } = await importImage(core, 'v', 'b')
    const before = await core.catalog.get('v')
    for (const remove of [
      () => core.catalog.removeVersion('v', '2'),
      () => core.catalog.remove('v'),
    ]) {
      const transact = core.store.transact.bind(core.store)
      let boot: Awaited<ReturnType<typeof bootOn>> | undefined
      core.store.transact = async (conditions, changes) => {
        core.store.transact = transact
        boot = await bootOn(core, 'v', version.versionId)
        return await transact(conditions, changes)
      }
      await assert.rejects(remove(), { code: 'IN_USE' })
      assert.deepEqual(await core.catalog.get('v'), before)
      assert.equal((await core.chunkStore.listVersions()).length, 2)
      assert.ok(boot)
      await core.boots.end(boot, 'poweroff')
    }
  })

  it('leave the data as long as somebody reads them', async () => {
    const core = createTestCore()
    const versionId = await core.addVDisk('debian')
    const lease = await core.versions.acquire(versionId)
    await core.catalog.remove('debian')
    assert.deepEqual(await core.chunkStore.listVersions(), [versionId])
    lease.release()
    await core.catalog.sweep()
    assert.deepEqual(await core.chunkStore.listVersions(), [])
  })
})

describe('beginImport()', () => {
  it('refuses names that are wrong', async () => {
    await assert.rejects(createTestCore().catalog.beginImport('../x'), { code: 'INVALID_ARGUMENT' })
  })
})

describe('sweep()', () => {
  it('removes what a crash left between store and database, and nothing during an import', async () => {
    const core = createTestCore()
    await core.addVDisk('debian')
    core.chunkStore.add(imageOf('orphan'))
    core.kernels.add('cc'.repeat(32))
    const endImport = await core.catalog.beginImport('new')
    const endOther = await core.catalog.beginImport('new')
    endOther()
    endOther() // counts once
    await core.catalog.sweep()
    assert.equal((await core.chunkStore.listVersions()).length, 2)
    endImport()
    await core.catalog.sweep()
    assert.deepEqual([(await core.chunkStore.listVersions()).length, core.kernels.size], [1, 0])
  })

  it('is over before an import begins, so that nothing new is taken for a rest', async () => {
    const core = createTestCore()
    await core.addVDisk('old')
    const removing = Promise.withResolvers<void>()
    const mayGoOn = Promise.withResolvers<void>()
    const remove = core.chunkStore.removeVersion.bind(core.chunkStore)
    core.chunkStore.removeVersion = async (versionId) => {
      removing.resolve()
      await mayGoOn.promise
      await remove(versionId)
    }
    const removed = core.catalog.remove('old')
    await removing.promise
    const imported = core.catalog.beginImport('new').then(async (endImport) => {
      core.kernels.add(KERNEL_A.id)
      await core.addVDisk('new', imageOf('new'), KERNEL_A)
      endImport()
    })
    mayGoOn.resolve()
    await Promise.all([removed, imported])
    assert.deepEqual([...core.kernels], [KERNEL_A.id])
    assert.equal((await core.chunkStore.listVersions()).length, 1)
  })
})

it('defaultKernel() is that of the oldest vDisk that has one', async () => {
  const core = createTestCore()
  assert.equal(await core.catalog.defaultKernel(), undefined)
  await core.addVDisk('a-bare')
  core.clock.nowMs += 1
  await core.addVDisk('z-first', imageOf('z'), KERNEL_A)
  core.clock.nowMs += 1
  await core.addVDisk('b-second', imageOf('b'), { id: 'bb'.repeat(32), release: '6.12.0' })
  assert.deepEqual(await core.catalog.defaultKernel(), KERNEL_A)
})
