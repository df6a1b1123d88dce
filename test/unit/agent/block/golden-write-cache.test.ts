import assert from 'node:assert/strict'
import { cp, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import { WriteCache } from '#agent/block/write-cache.ts'
import { closeWriteCacheFiles, openWriteCacheFiles } from '#agent/block/write-cache-files.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import {
  CACHE_SIZE_BYTES,
  CACHE_VERSION_ID,
  createWriteCache,
  readContent,
} from './write-cache-fixture.ts'

const FOLDER = fileURLToPath(new URL('../../../golden/write-cache/format-1', import.meta.url))
const BASE = 0x2e

/** What was written into the golden cache: entries of all kinds, and a slot that belongs to nobody. */
function writeGolden(cache: WriteCache): void {
  const write = (offset: number, length: number, text: string) =>
    cache.write(offset, Buffer.alloc(length, text), false)
  write(0, 2 * BLOCK_BYTES, 'two blocks ')
  write(3 * BLOCK_BYTES, BLOCK_BYTES, 'given back ')
  write(4 * BLOCK_BYTES + SECTOR_BYTES, 2 * SECTOR_BYTES, 'two sectors ')
  write(10 * BLOCK_BYTES, 3 * SECTOR_BYTES, 'the short last block ')
  cache.trim(3 * BLOCK_BYTES, BLOCK_BYTES, false)
  cache.releaseZeroed(3 * BLOCK_BYTES, BLOCK_BYTES, cache.drops)
  cache.writeZeroes(6 * BLOCK_BYTES, BLOCK_BYTES, false)
}

/** The same, drawn by hand. */
function goldenContent(): Buffer {
  const content = Buffer.alloc(CACHE_SIZE_BYTES, BASE)
  content.fill('two blocks ', 0, 2 * BLOCK_BYTES)
  content.fill(0, 3 * BLOCK_BYTES, 4 * BLOCK_BYTES)
  content.fill('two sectors ', 4 * BLOCK_BYTES + SECTOR_BYTES, 4 * BLOCK_BYTES + 3 * SECTOR_BYTES)
  content.fill(0, 6 * BLOCK_BYTES, 7 * BLOCK_BYTES)
  content.fill('the short last block ', 10 * BLOCK_BYTES)
  return content
}

describe('the golden write cache of format 1', () => {
  it('openWriteCacheFiles finds in it what was written', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = join(temporary.path, 'copy')
    await cp(FOLDER, folder, { recursive: true })
    const memory = openWriteCacheFiles({
      folder,
      versionId: CACHE_VERSION_ID,
      sizeBytes: CACHE_SIZE_BYTES,
      limitBytes: 64 * BLOCK_BYTES,
      durable: false,
    })
    const cache = new WriteCache(memory)
    assert.deepEqual(readContent(cache, CACHE_SIZE_BYTES, BASE), goldenContent())
    assert.equal(cache.usedBytes, 4 * BLOCK_BYTES)
    closeWriteCacheFiles(memory)
  })

  it('WriteCache makes exactly its bytes', async () => {
    await using fixture = await createWriteCache()
    writeGolden(fixture.cache)
    for (const file of ['table', 'data']) {
      const made = await readFile(join(fixture.folder, file))
      assert.deepEqual(made, await readFile(join(FOLDER, file)), file)
    }
  })

  it('has a table as WRITE-CACHE-FORMAT.md says, byte by byte', async () => {
    const table = await readFile(join(FOLDER, 'table'))
    const header = `62776361636865 0a 00000001 00001000 000000000000a600 00000008 ${CHECKSUM}`
    assert.equal(table.toString('hex', 0, 32), header.replaceAll(' ', ''))
    assert.equal(table.toString('latin1', 32, 96), 'cafe0123'.padEnd(64, '\0'))
    assert.ok(table.subarray(96, 4096).every((byte) => byte === 0))
    const entries = Array.from({ length: 11 }, (_, block) =>
      table.toString('hex', 4096 + 8 * block, 4104 + 8 * block),
    )
    const base = '0000000000000000'
    const zero = '0000000002000000'
    // Blocks 0 to 4, then 5 to 10.
    const first = ['0000000001ff0000', '0000000101ff0000', base, zero, '0000000301060000']
    const last = [base, zero, base, base, base, '0000000401070000']
    assert.deepEqual(entries, [...first, ...last])
    assert.equal(table.length, 4096 + 11 * 8)
  })
})

/** CRC-32 of the other bytes, as Python's zlib.crc32 gives it. */
const CHECKSUM = 'cbc898ab'
