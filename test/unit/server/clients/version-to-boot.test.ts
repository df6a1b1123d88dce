import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { versionToBoot } from '#server/clients/version-to-boot.ts'
import { createTestCore, imageOf } from '#test/support/server-core.ts'

async function createTwoVersions() {
  const core = createTestCore()
  const { catalog } = core
  const first = await core.addVDisk('debian', imageOf('first'))
  const second = await core.addVDisk('debian', imageOf('second'))
  await catalog.promote('debian', second)
  const boots = async (client: Parameters<typeof versionToBoot>[0]) =>
    (await versionToBoot(client, 'debian', catalog))?.versionId
  return { catalog, first, second, boots }
}

describe('versionToBoot', () => {
  it('is the version in production for who keeps nothing', async () => {
    const { second, boots, catalog } = await createTwoVersions()
    assert.equal(await boots(undefined), second)
    assert.equal(await boots({}), second)
    assert.equal(await versionToBoot({}, 'nothing', catalog), undefined)
  })

  it('is the one something is kept over, as long as that is wanted', async () => {
    const { catalog, first, second, boots } = await createTwoVersions()
    const keptVersions = { debian: first }
    assert.equal(await boots({ keptVersions }), second, 'nobody wants it any more')
    assert.equal(await boots({ keptVersions, writeCache: { place: 'disk', isKept: true } }), first)
    await catalog.setWriteCache('debian', { place: 'server', isKept: true })
    assert.equal(await boots({ keptVersions }), first, 'by the vDisk')
    assert.equal(await boots({ keptVersions: { other: first } }), second)
    assert.equal(await boots({ keptVersions: { debian: '00' } }), second, 'it is gone')
  })
})
