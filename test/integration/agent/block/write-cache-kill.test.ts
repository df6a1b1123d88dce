/** A process that writes is killed, again and again: what it was told is written must be there. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { WriteCache } from '#agent/block/write-cache.ts'
import { closeWriteCacheFiles, openWriteCacheFiles } from '#agent/block/write-cache-files.ts'
import { KiB } from '#shared/units.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { BASE_FILL, changesOf } from '#test/support/write-cache-changes.ts'
import { rangeOf, WriteCacheModel } from '#test/support/write-cache-model.ts'

const SIZE_BYTES = 2048 * KiB + 3 * 512
const KILLS = 8
const WRITER = fileURLToPath(new URL('../../../support/write-cache-writer.ts', import.meta.url))

/** Runs the writer until it has ended so many changes; returns how many it began and ended. */
async function killWriter(folder: string, seed: number, changes: number) {
  const child = spawn(process.execPath, [WRITER, folder, String(SIZE_BYTES), String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exit = once(child, 'exit')
  let said = ''
  for await (const bytes of child.stdout.setEncoding('latin1')) {
    said += bytes
    if (said.length > 2 * changes) child.kill('SIGKILL')
  }
  assert.deepEqual(await exit, [null, 'SIGKILL'])
  assert.match(said, /^(be)*b?$/)
  return { begun: Math.ceil(said.length / 2), ended: Math.floor(said.length / 2) }
}

function readCache(folder: string) {
  const limitBytes = SIZE_BYTES
  const options = { folder, versionId: 'cafe0123', sizeBytes: SIZE_BYTES, limitBytes }
  const memory = openWriteCacheFiles({ ...options, durable: false })
  const cache = new WriteCache(memory)
  const content = Buffer.alloc(SIZE_BYTES, BASE_FILL)
  cache.overlay(0, content)
  closeWriteCacheFiles(memory)
  return content
}

describe('write cache', () => {
  it('has every acknowledged change when its process was killed', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = join(temporary.path, 'write-cache')
    const model = new WriteCacheModel(SIZE_BYTES)
    let midway = 0
    // Until one kill at least hit a change.
    for (let seed = 1; seed <= KILLS || midway === 0; seed += 1) {
      const { begun, ended } = await killWriter(folder, seed, 20 * seed * seed)
      const changes = changesOf(seed, SIZE_BYTES)
      for (let count = 0; count < ended; count += 1) model.apply(changes.next().value)
      const content = readCache(folder)
      if (begun > ended) {
        midway += 1
        const change = changes.next().value
        model.applyPart(change, rangeOf(content, change))
      }
      assert.ok(content.equals(model.bytes), `after kill ${seed}, ${ended} changes`)
    }
  })
})
