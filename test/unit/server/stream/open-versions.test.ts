import assert from 'node:assert/strict'
import { it } from 'node:test'
import { OpenVersions } from '#server/stream/open-versions.ts'
import { MemoryChunkStore } from '#test/support/memory-chunk-store.ts'

function createOpenVersions() {
  const store = new MemoryChunkStore()
  const { versionId } = store.add(new Uint8Array(100))
  return {
    store,
    versionId,
    versions: new OpenVersions(store, (error) => assert.fail(String(error))),
  }
}

it('OpenVersions opens a version once for many and closes it after the last', async () => {
  const { store, versionId, versions } = createOpenVersions()
  const leases = await Promise.all([versions.acquire(versionId), versions.acquire(versionId)])
  assert.equal(leases[0].reader, leases[1].reader)
  assert.equal(versions.leaseCount(versionId), 2)
  leases[0].release()
  leases[0].release() // counts once
  assert.ok(versions.isInUse(versionId))
  leases[1].release()
  await new Promise(setImmediate)
  assert.deepEqual([versions.isInUse(versionId), store.openReaders], [false, 0])
})

it('OpenVersions counts a version as in use from the moment it is asked for', async () => {
  const { versionId, versions } = createOpenVersions()
  const acquiring = versions.acquire(versionId)
  assert.ok(versions.isInUse(versionId))
  const lease = await acquiring
  lease.release()
})

it('OpenVersions forgets a version that cannot be opened', async () => {
  const { versions } = createOpenVersions()
  await assert.rejects(versions.acquire('beef'), { code: 'NOT_FOUND' })
  assert.ok(!versions.isInUse('beef'))
})
