import assert from 'node:assert/strict'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { createLog, silentLog } from '#server/log.ts'
import type { BootTrace } from '#server/traces/boot-trace.ts'
import { FolderTraceFiles } from '#server/traces/trace-files.ts'
import { MODELS_MAX, TRACES_PER_MODEL_MAX, Traces } from '#server/traces/traces.ts'
import { blockImage } from '#test/support/block-image.ts'
import { MemoryChunkStore } from '#test/support/memory-chunk-store.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

const VERSION_ID = 'c0ffee00'.repeat(8)

const trace = (bootId: string, position: number): BootTrace => ({
  origin: 'recorded',
  bootId,
  model: 'PC',
  clientId: 'c1',
  isConfirmed: true,
  recordedAtMs: 1,
  entries: [{ position, atMs: 2 }],
})

describe('FolderTraceFiles', () => {
  it('keeps one trace per origin and boot, of each version its own', async () => {
    await using folder = await createTemporaryFolder()
    const files = await FolderTraceFiles.open(join(folder.path, 'traces'), silentLog())
    await files.save(VERSION_ID, trace('a1', 1))
    await files.save(VERSION_ID, trace('a2', 2))
    await files.save(VERSION_ID, trace('a1', 3))
    await files.save('ab', trace('a1', 4))
    const kept = await files.load(VERSION_ID)
    assert.deepEqual(kept, [trace('a1', 3), trace('a2', 2)])
    assert.deepEqual((await files.listVersions()).toSorted(), ['ab', VERSION_ID])
    await files.remove(VERSION_ID, trace('a1', 3))
    assert.deepEqual(await files.load(VERSION_ID), [trace('a2', 2)])
    await files.removeVersion(VERSION_ID)
    assert.deepEqual([await files.load(VERSION_ID), await files.listVersions()], [[], ['ab']])
  })

  it('leaves out and removes what is damaged, and says so', async () => {
    await using folder = await createTemporaryFolder()
    const lines: string[] = []
    const log = createLog({ json: false, level: 'warn' }, (line) => lines.push(line))
    const files = await FolderTraceFiles.open(folder.path, log)
    await files.save('ab', trace('a1', 1))
    await files.save('ab', trace('a2', 2))
    const path = join(folder.path, 'ab', 'recorded-a1.trace')
    const bytes = await readFile(path)
    await writeFile(path, bytes.subarray(1))
    await writeFile(join(folder.path, 'ab', 'boot-set'), 'none of ours')
    assert.deepEqual(await files.load('ab'), [trace('a2', 2)])
    assert.deepEqual(await readdir(join(folder.path, 'ab')), ['boot-set', 'recorded-a2.trace'])
    assert.equal(lines.length, 1)
    assert.match(lines[0] ?? '', /a trace is damaged and is removed.*recorded-a1/)
  })
})

describe('Traces', () => {
  it('keeps the last boots of each model, and the models that booted last', async () => {
    await using folder = await createTemporaryFolder()
    const files = await FolderTraceFiles.open(folder.path, silentLog())
    const store = new MemoryChunkStore()
    const { versionId } = store.add(blockImage(100, 'x'))
    const reader = await store.openVersion(versionId)
    let nowMs = 0
    const now = () => (nowMs += 1)
    const traces = new Traces({ files, store, now, log: silentLog() })
    const record = (model: string, boot: number, clientId = `client-${boot}`) =>
      traces.record(reader, {
        bootId: boot.toString(16).padStart(8, '0'),
        clientId,
        isConfirmed: true,
        model,
        entries: [{ position: 0, atMs: 0 }],
      })
    let boot = 0
    for (let at = 0; at < TRACES_PER_MODEL_MAX + 3; at += 1) await record('PC', (boot += 1))
    const ids = (await files.load(versionId)).map(({ bootId }) => Number.parseInt(bootId, 16))
    assert.deepEqual(
      ids,
      Array.from({ length: TRACES_PER_MODEL_MAX }, (_, at) => at + 4),
    )
    // One machine that boots again and again pushes nobody out but itself.
    for (let at = 0; at < TRACES_PER_MODEL_MAX; at += 1) await record('PC', (boot += 1), 'client-4')
    const clients = (await files.load(versionId)).map(({ clientId }) => clientId)
    assert.equal(new Set(clients).size, TRACES_PER_MODEL_MAX)
    assert.equal(clients.length, TRACES_PER_MODEL_MAX)
    for (let at = 0; at < MODELS_MAX; at += 1) await record(`model ${at}`, (boot += 1))
    const models = new Set((await files.load(versionId)).map(({ model }) => model))
    assert.ok(!models.has('PC') && models.size === MODELS_MAX)
  })

  it('keeps each chunk once, where it was read first', async () => {
    await using folder = await createTemporaryFolder()
    const files = await FolderTraceFiles.open(folder.path, silentLog())
    const store = new MemoryChunkStore()
    const { versionId } = store.add(blockImage(100, 'x'))
    const reader = await store.openVersion(versionId)
    const traces = new Traces({ files, store, now: Date.now, log: silentLog() })
    const second = reader.chunks.firstBlock(1)
    const entries = [second, 0, second, 0].map((position, atMs) => ({ position, atMs }))
    await traces.record(reader, {
      bootId: 'a1',
      clientId: 'c1',
      isConfirmed: true,
      model: 'PC',
      entries,
    })
    const [kept] = await files.load(versionId)
    assert.deepEqual(kept?.entries, entries.slice(0, 2))
  })

  it('keeps nothing of a trace that names no chunk', async () => {
    await using folder = await createTemporaryFolder()
    const files = await FolderTraceFiles.open(folder.path, silentLog())
    const store = new MemoryChunkStore()
    const { versionId } = store.add(blockImage(100, 'x'))
    const reader = await store.openVersion(versionId)
    const traces = new Traces({ files, store, now: Date.now, log: silentLog() })
    const entries = [1, 100, 2 ** 32 - 1].map((position) => ({ position, atMs: 0 }))
    await traces.record(reader, {
      bootId: 'a1',
      clientId: 'c1',
      isConfirmed: true,
      model: 'PC',
      entries,
    })
    assert.deepEqual(await files.listVersions(), [])
  })

  it('are forgotten when told so, and the version is foreseen as a new one', async () => {
    await using folder = await createTemporaryFolder()
    const files = await FolderTraceFiles.open(folder.path, silentLog())
    const store = new MemoryChunkStore()
    const [before, version] = ['x', 'y'].map((seed) => store.add(blockImage(100, seed)))
    assert.ok(before !== undefined && version !== undefined)
    const root = { partition: 0, fsType: 'ext4', options: '' }
    const traces = new Traces({ files, store, now: Date.now, log: silentLog() })
    const boot = { bootId: 'a1', clientId: 'c1', isConfirmed: true, model: 'PC' }
    const entries = [{ position: 0, atMs: 0 }]
    for (const { versionId } of [before, version]) {
      await traces.record(await store.openVersion(versionId), { ...boot, entries })
    }
    await traces.forget({ versionId: version.versionId, root }, [])
    assert.equal(await traces.list(version.versionId), undefined)
    await traces.forget({ versionId: version.versionId, root }, [
      { versionId: before.versionId, root },
    ])
    assert.equal((await traces.list(version.versionId))?.source, 'carried')
    assert.equal((await traces.list(before.versionId))?.source, 'recorded')
  })

  it('are swept with the version they are of', async () => {
    await using folder = await createTemporaryFolder()
    const files = await FolderTraceFiles.open(folder.path, silentLog())
    const store = new MemoryChunkStore()
    const { versionId } = store.add(blockImage(100, 'x'))
    const reader = await store.openVersion(versionId)
    const traces = new Traces({ files, store, now: Date.now, log: silentLog() })
    await traces.record(reader, {
      bootId: 'a1',
      clientId: 'c1',
      isConfirmed: true,
      model: 'PC',
      entries: [{ position: 0, atMs: 0 }],
    })
    await traces.sweep()
    assert.deepEqual(await files.listVersions(), [versionId])
    await store.removeVersion(versionId)
    await traces.sweep()
    assert.deepEqual(await files.listVersions(), [])
  })
})
