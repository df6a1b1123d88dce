import assert from 'node:assert/strict'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { silentLog } from '#server/log.ts'
import { STATE_WRITTEN, STATE_ZERO } from '#server/write-cache/block-states.ts'
import { WriteStore, type WritesKey } from '#server/write-cache/write-store.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { seededRandom } from '#test/support/seeded-random.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const BLOCKS = 20_000
const KEY: WritesKey = {
  clientId: 'c1',
  bootId: 'b1',
  vdisk: 'debian',
  versionId: 'v1',
  sizeBytes: BLOCKS * BLOCK_BYTES,
  isKept: true,
  resumes: false,
}

async function createStore(quotaBytes = 1e9) {
  const temporary = await createTemporaryFolder()
  const folder = join(temporary.path, 'writes')
  const store = new WriteStore({ folder, quotaBytes, log: silentLog() })
  return { store, folder, [Symbol.asyncDispose]: () => temporary[Symbol.asyncDispose]() }
}

const block = (fill: string) => Buffer.alloc(BLOCK_BYTES, fill)

describe('WriteStore', () => {
  it('keeps what was written, against a list of blocks, however often it is opened', async () => {
    await using fixture = await createStore()
    const random = seededRandom(7)
    const model = new Map<number, Buffer | undefined>()
    for (let boot = 0; boot < 6; boot += 1) {
      const opened = await fixture.store.open({ ...KEY, bootId: `b${boot}` })
      const { writes } = opened
      for (let step = 0; step < 60; step += 1) {
        const first = Math.floor(random() * (BLOCKS - 40))
        const count = 1 + Math.floor(random() * 30)
        const kind = random()
        if (kind < 0.6) {
          const bytes = Buffer.alloc(count * BLOCK_BYTES, `${boot} ${step} `)
          await writes.write(first, bytes)
          for (let at = 0; at < count; at += 1) {
            model.set(first + at, bytes.subarray(at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES))
          }
        } else if (kind < 0.8) {
          await writes.zero(first, count)
          for (let at = 0; at < count; at += 1) model.set(first + at, undefined)
        } else {
          await writes.forget(first, count)
          for (let at = 0; at < count; at += 1) model.delete(first + at)
        }
      }
      await writes.sync()
      const written = [...model].filter(([, bytes]) => bytes !== undefined)
      assert.equal(writes.usedBytes, written.length * BLOCK_BYTES)
      const found = new Map<number, number>()
      for await (const { firstBlock, blocks, state } of writes.runs()) {
        for (let at = 0; at < blocks; at += 1) found.set(firstBlock + at, state)
      }
      const expected = [...model].map(([at, bytes]) => [at, bytes ? STATE_WRITTEN : STATE_ZERO])
      assert.deepEqual(found, new Map((expected as [number, number][]).sort(([a], [b]) => a - b)))
      for (const [at, bytes] of written) {
        const target = Buffer.alloc(BLOCK_BYTES)
        assert.ok(await writes.read(at, target))
        assert.ok(target.equals(bytes as Buffer), `block ${at}`)
      }
      await opened.close()
    }
  })

  it('gives nothing that was not written', async () => {
    await using fixture = await createStore()
    const opened = await fixture.store.open(KEY)
    const { writes } = opened
    await writes.write(5, block('w'))
    await writes.zero(6, 1)
    for (const [first, count] of [
      [4, 1],
      [5, 2],
      [6, 1],
      [BLOCKS - 1, 1],
    ] as const) {
      assert.ok(!(await writes.read(first, Buffer.alloc(count * BLOCK_BYTES))), `block ${first}`)
    }
    await opened.close()
  })

  it('begins anew with each boot when nothing is kept, and goes on within one', async () => {
    await using fixture = await createStore()
    const key = { ...KEY, isKept: false }
    const first = await fixture.store.open(key)
    await first.writes.write(5, block('w'))
    await first.writes.sync()
    await first.close()
    const again = await fixture.store.open({ ...key, resumes: true })
    assert.equal(again.writes.usedBytes, BLOCK_BYTES)
    await again.close()
    const next = await fixture.store.open({ ...key, bootId: 'b2' })
    assert.equal(next.writes.usedBytes, 0)
    await next.close()
  })

  it('refuses a boot that another has taken over from, and lets a later one take over', async () => {
    await using fixture = await createStore()
    await (await fixture.store.open(KEY)).close()
    await (await fixture.store.open({ ...KEY, bootId: 'b2' })).close()
    await assert.rejects(fixture.store.open({ ...KEY, resumes: true }), { code: 'WRITES_FENCED' })
    await (await fixture.store.open({ ...KEY, bootId: 'b2', resumes: true })).close()
    await (await fixture.store.open({ ...KEY, bootId: 'b3' })).close()
  })

  it('has one user at a time', async () => {
    await using fixture = await createStore()
    const first = await fixture.store.open(KEY)
    let isOpen = false
    const second = fixture.store.open(KEY).then((it) => {
      isOpen = true
      return it
    })
    await new Promise((resolve) => setTimeout(resolve, 20))
    assert.ok(!isOpen)
    await first.close()
    await (await second).close()
  })

  it('knows what is kept, discards it, and forgets clients and boots', async () => {
    await using fixture = await createStore()
    const { store, folder } = fixture
    await (await store.open(KEY)).close()
    await (await store.open({ ...KEY, vdisk: 'kiosk', versionId: 'v2' })).close()
    await (await store.open({ ...KEY, versionId: 'v3', isKept: false })).close()
    const byName = (it: { vdisk: string }) => it.vdisk
    assert.deepEqual((await store.kept('c1')).map(byName).sort(), ['debian', 'kiosk'])
    await store.discard('c1', 'debian')
    assert.deepEqual(await store.kept('c1'), [{ vdisk: 'kiosk', versionId: 'v2' }])
    const dropped = join(folder, 'c1/v3/dropped')
    await store.forgetBoots('c1', 'b1')
    assert.ok((await stat(dropped)).isDirectory())
    await store.forgetBoots('c1', 'b2')
    await assert.rejects(stat(dropped))
    await (await store.open({ ...KEY, clientId: 'c2' })).close()
    await store.sweep(new Set(['c2']))
    assert.deepEqual(await store.kept('c1'), [])
    assert.equal((await store.kept('c2')).length, 1)
  })

  it('tells how much room is left, by its quota', async () => {
    await using fixture = await createStore(3 * BLOCK_BYTES)
    const opened = await fixture.store.open(KEY)
    assert.equal(await opened.roomBytes(), 3 * BLOCK_BYTES)
    await opened.writes.write(0, Buffer.alloc(2 * BLOCK_BYTES))
    assert.equal(await opened.roomBytes(), BLOCK_BYTES)
    await opened.writes.zero(0, 1)
    assert.equal(await opened.roomBytes(), 2 * BLOCK_BYTES)
    await opened.close()
  })

  it('refuses what it cannot read, or what is for a vDisk of another size', async () => {
    await using fixture = await createStore()
    await (await fixture.store.open(KEY)).close()
    const owner = join(fixture.folder, 'c1/v1/kept/owner')
    const sound = await readFile(owner, 'utf8')
    for (const text of ['', '{', '{"format":2}', sound.replace('"format":1', '"format":2')]) {
      await writeFile(owner, text)
      await assert.rejects(fixture.store.open({ ...KEY, bootId: 'b2' }), {
        code: 'WRITES_UNUSABLE',
      })
    }
    await writeFile(owner, sound)
    const other = { ...KEY, bootId: 'b2', sizeBytes: KEY.sizeBytes + BLOCK_BYTES }
    await assert.rejects(fixture.store.open(other), { code: 'WRITES_UNUSABLE' })
  })
})
