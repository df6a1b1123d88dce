/**
 * Writes to the write cache of the folder it is given, without end: to be killed. Says each change
 * with a letter before it is begun and one after it is acknowledged. The changes follow from the
 * seed, so that who counts the letters knows what was written.
 *
 * usage: write-cache-writer.ts FOLDER SIZE_BYTES SEED
 */
import { writeSync } from 'node:fs'
import { WriteCache } from '#agent/block/write-cache.ts'
import { openWriteCacheFiles } from '#agent/block/write-cache-files.ts'
import { applyChange, changesOf } from '#test/support/write-cache-changes.ts'

const [folder = '', sizeBytes, seed] = process.argv.slice(2)
const memory = openWriteCacheFiles({
  folder,
  versionId: 'cafe0123',
  sizeBytes: Number(sizeBytes),
  limitBytes: Number(sizeBytes),
  durable: false,
})
const cache = new WriteCache(memory)
for (const change of changesOf(Number(seed), Number(sizeBytes))) {
  writeSync(1, 'b')
  applyChange(cache, change)
  writeSync(1, 'e')
}
