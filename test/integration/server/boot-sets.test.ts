/** Boot sets over traces and files in a folder. */
import assert from 'node:assert/strict'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { silentLog } from '#server/log.ts'
import { BootSets } from '#server/stream/boot-sets.ts'
import { SlabPool } from '#server/stream/slab-pool.ts'
import { FolderTraceFiles } from '#server/traces/trace-files.ts'
import { Traces } from '#server/traces/traces.ts'
import { CHUNK_LEVEL } from '#shared/wire/frame.ts'
import { blockImage } from '#test/support/block-image.ts'
import { eventually } from '#test/support/eventually.ts'
import { MemoryChunkStore } from '#test/support/memory-chunk-store.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

async function createSets(options: { readonly refreshDelayMs?: number } = {}) {
  const folder = await createTemporaryFolder()
  const log = silentLog()
  const store = new MemoryChunkStore()
  const { versionId } = store.add(blockImage(400, 'sets'))
  const reader = await store.openVersion(versionId)
  const files = await FolderTraceFiles.open(join(folder.path, 'traces'), log)
  const traces = new Traces({ files, store, now: Date.now, log })
  const open = () => new BootSets({ traces, files, store, slabs: new SlabPool(), log, ...options })
  /** A boot that reads these chunks, by index. */
  const boot = (bootId: string, indexes: readonly number[]) =>
    traces.record(reader, {
      bootId: bootId.repeat(8),
      clientId: bootId,
      isConfirmed: true,
      model: 'PC',
      entries: indexes.map((index, atMs) => ({ position: reader.chunks.firstBlock(index), atMs })),
    })
  const path = join(folder.path, 'traces', versionId, 'boot-set')
  return { folder, store, versionId, reader, traces, open, boot, path }
}

type Lease = Awaited<ReturnType<BootSets['acquire']>>

const chunksOf = (lease: Lease) =>
  lease?.set.layout.entries.filter(({ level }) => level === CHUNK_LEVEL).length

describe('BootSets', () => {
  it('knows nothing of a version without traces, and has a set after its first boot', async () => {
    const { folder, reader, open, boot } = await createSets()
    await using _ = folder
    const sets = open()
    assert.equal(await sets.acquire(reader), undefined)
    await boot('a1', [5, 6, 7])
    const lease = await sets.acquire(reader)
    assert.equal(chunksOf(lease), 3)
    lease?.release()
    await sets.close()
  })

  it('writes its file once, and takes it from there afterwards', async () => {
    const { folder, reader, open, boot, path } = await createSets()
    await using _ = folder
    await boot('a1', [1, 2, 3, 4])
    const first = open()
    const lease = await first.acquire(reader)
    await first.idle()
    assert.equal(lease?.set.hasFile, true)
    await first.close()
    const { mtimeMs } = await stat(path)
    const second = open()
    const again = await second.acquire(reader)
    assert.equal(again?.set.hasFile, true)
    await second.idle()
    assert.equal((await stat(path)).mtimeMs, mtimeMs)
    await second.close()
  })

  it('gives new sessions what later boots said, and leaves running ones theirs', async () => {
    const { folder, reader, open, boot } = await createSets({ refreshDelayMs: 0 })
    await using _ = folder
    await boot('a1', [1, 2, 3, 4])
    const sets = open()
    const before = await sets.acquire(reader)
    await boot('a2', [1, 2, 3, 4, 5, 6])
    let after: Lease
    await eventually('there is a new set', async () => {
      after?.release()
      after = await sets.acquire(reader)
      return chunksOf(after) === 6
    })
    assert.equal(chunksOf(before), 4)
    await before?.set.load(0, reader)
    assert.ok(before?.set.piece(0) !== undefined)
    await sets.idle()
    assert.deepEqual([before?.set.hasFile, after?.set.hasFile], [true, true])
    before?.release()
    after?.release()
    await sets.close()
  })

  it('keeps its set when a boot said nearly the same', async () => {
    const { folder, reader, open, boot } = await createSets({ refreshDelayMs: 0 })
    await using _ = folder
    await boot('a1', [1, 2, 3, 4])
    const sets = open()
    const before = await sets.acquire(reader)
    await boot('a2', [4, 3, 2, 1])
    await new Promise((resolve) => setTimeout(resolve, 1))
    await sets.idle()
    const after = await sets.acquire(reader)
    assert.equal(after?.set, before?.set)
    await sets.close()
  })

  it('makes a damaged file anew', async () => {
    const { folder, reader, open, boot, path } = await createSets()
    await using _ = folder
    await boot('a1', [1, 2, 3, 4])
    const first = open()
    await first.acquire(reader)
    await first.idle()
    await first.close()
    const intact = await readFile(path)
    await writeFile(path, intact.with(intact.length - 1, 0xff ^ (intact.at(-1) ?? 0)))
    const sets = open()
    const lease = await sets.acquire(reader)
    await lease?.set.load(0, reader)
    await sets.idle()
    assert.deepEqual(await readFile(path), intact)
    assert.equal(lease?.set.hasFile, true)
    await sets.close()
  })

  it('does without a file for objects the store has lost, and still has their list', async () => {
    const { folder, store, reader, open, boot } = await createSets()
    await using _ = folder
    await boot('a1', [1, 2, 3, 4])
    store.corruptBlock = reader.chunks.firstBlock(3)
    const sets = open()
    const lease = await sets.acquire(reader)
    await sets.idle()
    assert.deepEqual([lease?.set.hasFile, chunksOf(lease)], [false, 4])
    await sets.close()
  })
})
