import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createTestCore, imageOf } from '#test/support/server-core.ts'

const KERNEL_A = { id: 'aa'.repeat(32), release: '6.1.0' }

describe('register() and list()', () => {
  it('show a vDisk with its version under its name', async () => {
    const core = createTestCore()
    const versionId = await core.addVDisk('debian', imageOf('debian'), KERNEL_A)
    const vdisk = await core.catalog.get('debian')
    assert.equal(vdisk.record.productionVersionId, versionId)
    assert.deepEqual(
      vdisk.versions.map((version) => version.kernel),
      [KERNEL_A],
    )
    assert.deepEqual(
      (await core.catalog.list()).map(({ record }) => record.name),
      ['debian'],
    )
    assert.equal((await core.catalog.productionVersion('debian'))?.versionId, versionId)
  })

  it('keep vDisks apart whose names begin alike', async () => {
    const core = createTestCore()
    await core.addVDisk('debian')
    await core.addVDisk('debian-12')
    assert.equal((await core.catalog.get('debian')).versions.length, 1)
    await core.catalog.remove('debian')
    assert.equal((await core.catalog.get('debian-12')).versions.length, 1)
  })

  it('refuse a name that is there', async () => {
    const core = createTestCore()
    await core.addVDisk('debian')
    await assert.rejects(core.addVDisk('debian', imageOf('other')), { code: 'ALREADY_EXISTS' })
  })
})

describe('reserve()', () => {
  it('refuses names that are wrong, there, or being imported', async () => {
    const core = createTestCore()
    const { catalog } = core
    await core.addVDisk('debian')
    await assert.rejects(catalog.reserve('debian'), { code: 'ALREADY_EXISTS' })
    await assert.rejects(catalog.reserve('../x'), { code: 'INVALID_ARGUMENT' })
    const release = await catalog.reserve('ubuntu')
    await assert.rejects(catalog.reserve('ubuntu'), { code: 'ALREADY_EXISTS', message: /running/ })
    release()
    ;(await catalog.reserve('ubuntu'))()
  })
})

describe('remove()', () => {
  it('removes records, data and boot files', async () => {
    const core = createTestCore()
    core.kernels.add(KERNEL_A.id)
    await core.addVDisk('debian', imageOf('debian'), KERNEL_A)
    await core.catalog.remove('debian')
    assert.equal(await core.catalog.tryGet('debian'), undefined)
    assert.deepEqual([core.chunkStore.versions.size, core.kernels.size], [0, 0])
    await assert.rejects(core.catalog.remove('debian'), { code: 'NOT_FOUND' })
  })

  it('keeps data and boot files another vDisk still has', async () => {
    const core = createTestCore()
    core.kernels.add(KERNEL_A.id)
    const image = imageOf('same')
    const versionId = await core.addVDisk('one', image, KERNEL_A)
    await core.addVDisk('two', image, KERNEL_A)
    await core.catalog.remove('one')
    assert.deepEqual([...core.chunkStore.versions.keys()], [versionId])
    assert.deepEqual([...core.kernels], [KERNEL_A.id])
    assert.equal((await core.catalog.version('two', versionId))?.vdisk, 'two')
  })

  it('refuses while a client reads it', async () => {
    const core = createTestCore()
    const versionId = await core.addVDisk('debian')
    const lease = await core.versions.acquire(versionId)
    await assert.rejects(core.catalog.remove('debian'), { code: 'IN_USE' })
    assert.equal(core.chunkStore.versions.size, 1)
    lease.release()
    await core.catalog.remove('debian')
  })
})

describe('sweep()', () => {
  it('removes what a crash left between store and database, and nothing during an import', async () => {
    const core = createTestCore()
    await core.addVDisk('debian')
    core.chunkStore.add(imageOf('orphan'))
    core.kernels.add('cc'.repeat(32))
    const release = await core.catalog.reserve('new')
    await core.catalog.sweep()
    assert.equal(core.chunkStore.versions.size, 2)
    release()
    await core.catalog.sweep()
    assert.deepEqual([core.chunkStore.versions.size, core.kernels.size], [1, 0])
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
    const imported = core.catalog.reserve('new').then(async (release) => {
      core.kernels.add(KERNEL_A.id)
      await core.addVDisk('new', imageOf('new'), KERNEL_A)
      release()
    })
    mayGoOn.resolve()
    await Promise.all([removed, imported])
    assert.deepEqual([...core.kernels], [KERNEL_A.id])
    assert.equal(core.chunkStore.versions.size, 1)
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
