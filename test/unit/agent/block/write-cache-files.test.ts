import assert from 'node:assert/strict'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { crc32 } from 'node:zlib'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import { closeWriteCacheFiles, openWriteCacheFiles } from '#agent/block/write-cache-files.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import {
  CACHE_SIZE_BYTES,
  CACHE_VERSION_ID,
  createWriteCache,
  type WriteCacheFixture,
} from './write-cache-fixture.ts'

const BASE = 0x2e
const HEADER_BYTES = 4096

/** A cache with two blocks and a part of one in three slots. */
async function createUsed(): Promise<WriteCacheFixture> {
  const fixture = await createWriteCache()
  fixture.cache.write(0, Buffer.alloc(2 * BLOCK_BYTES, 'a'), false)
  fixture.cache.write(5 * BLOCK_BYTES + SECTOR_BYTES, Buffer.alloc(SECTOR_BYTES, 'b'), false)
  return fixture
}

function change(fixture: WriteCacheFixture, file: string, edit: (bytes: Buffer) => void): void {
  const path = join(fixture.folder, file)
  const bytes = readFileSync(path)
  edit(bytes)
  writeFileSync(path, bytes)
}

/** Opens it anew while the fixture's own descriptors stay open, which it closes at its end. */
function open(fixture: WriteCacheFixture, identity = {}): void {
  closeWriteCacheFiles(
    openWriteCacheFiles({
      folder: fixture.folder,
      versionId: CACHE_VERSION_ID,
      sizeBytes: CACHE_SIZE_BYTES,
      limitBytes: 64 * BLOCK_BYTES,
      durable: false,
      ...identity,
    }),
  )
}

const refused = (message: RegExp) => ({ code: 'WRITE_CACHE_UNUSABLE', message })

describe('openWriteCacheFiles', () => {
  it('makes an empty cache that takes no room', async () => {
    await using fixture = await createWriteCache()
    assert.ok(fixture.content(BASE).equals(Buffer.alloc(CACHE_SIZE_BYTES, BASE)))
    const table = statSync(join(fixture.folder, 'table'))
    assert.equal(table.size, HEADER_BYTES + 11 * 8)
    assert.equal(statSync(join(fixture.folder, 'data')).size, 0)
    assert.equal(statSync(fixture.folder).mode & 0o777, 0o700)
    assert.equal(table.mode & 0o777, 0o600)
  })

  it('refuses the cache of another version or size', async () => {
    await using fixture = await createUsed()
    const opened = openDescriptors()
    assert.throws(() => open(fixture, { versionId: 'cafe0124' }), refused(/"cafe0123", expected/))
    assert.throws(
      () => open(fixture, { sizeBytes: CACHE_SIZE_BYTES + 512 }),
      refused(/42496 bytes, expected 43008/),
    )
    assert.equal(openDescriptors(), opened)
  })

  it('refuses any header with a changed bit', async () => {
    await using fixture = await createUsed()
    for (let at = 0; at < 96; at += 1) {
      const flip = (bytes: Buffer) => {
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8))
      }
      change(fixture, 'table', flip)
      assert.throws(() => open(fixture), refused(/./), `byte ${at}`)
      change(fixture, 'table', flip)
    }
    open(fixture)
  })

  it('says which format it found when that is another', async () => {
    await using fixture = await createUsed()
    change(fixture, 'table', (bytes) => {
      bytes.writeUInt32BE(2, 8)
      bytes.writeUInt32BE(crc32(bytes.subarray(32, 96), crc32(bytes.subarray(0, 28))), 28)
    })
    assert.throws(() => open(fixture), refused(/its format is 2, expected 1/))
  })

  for (const [what, entry] of [
    ['a slot without a flag', '0000000100ff0000'],
    ['a slot with an empty mask', '0000000201000000'],
    ['both flags', '0000000203ff0000'],
    ['an unknown flag', '0000000204000000'],
    ['zeros with a slot', '0000000202000000'],
    ['zeros with a mask', '0000000002010000'],
    ['something reserved', '0000000002000001'],
    ['a slot of more than 24 bits', '00ffffff01ff0000'],
  ] as const) {
    it(`refuses an entry with ${what}`, async () => {
      await using fixture = await createUsed()
      change(fixture, 'table', (bytes) => bytes.write(entry, HEADER_BYTES + 3 * 8, 'hex'))
      assert.throws(
        () => open(fixture),
        refused(new RegExp(`the entry ${entry}, which means noth`)),
      )
    })
  }

  it('refuses two entries with one slot', async () => {
    await using fixture = await createUsed()
    change(fixture, 'table', (bytes) => bytes.write('0000000101010000', HEADER_BYTES + 64, 'hex'))
    assert.throws(() => open(fixture), refused(/two blocks claim slot 1/))
  })

  it('refuses data that end before a sector that was written, and takes a longer one', async () => {
    await using fixture = await createUsed()
    const data = join(fixture.folder, 'data')
    const endBytes = 2 * BLOCK_BYTES + 2 * SECTOR_BYTES
    assert.equal(statSync(data).size, endBytes)
    open(fixture)
    assert.equal(statSync(data).size, 3 * BLOCK_BYTES)
    for (const bytes of [endBytes - 1, 2 * BLOCK_BYTES, BLOCK_BYTES]) {
      truncateSync(data, bytes)
      assert.throws(() => open(fixture), refused(/beyond the end of its data/), `${bytes} bytes`)
    }
    truncateSync(data, endBytes)
    truncateSync(data, 9 * BLOCK_BYTES + 5)
    open(fixture)
    assert.equal(statSync(data).size, 3 * BLOCK_BYTES)
  })

  it('refuses a table of another length', async () => {
    await using fixture = await createUsed()
    const table = join(fixture.folder, 'table')
    for (const bytes of [HEADER_BYTES + 10 * 8, HEADER_BYTES + 12 * 8, HEADER_BYTES + 1]) {
      truncateSync(table, bytes)
      assert.throws(() => open(fixture), refused(/its table has \d+ bytes, expected 4184/))
    }
    truncateSync(table, HEADER_BYTES - 1)
    assert.throws(() => open(fixture), refused(/not one of bootwire/))
    truncateSync(table, 0)
    assert.throws(() => open(fixture), refused(/its table is missing/))
    rmSync(table)
    assert.throws(() => open(fixture), refused(/its table is missing/))
  })

  it('completes a table whose maker was killed', async () => {
    await using fixture = await createWriteCache()
    const table = join(fixture.folder, 'table')
    for (const bytes of [HEADER_BYTES, 0]) {
      truncateSync(table, bytes)
      open(fixture)
      assert.equal(statSync(table).size, HEADER_BYTES + 11 * 8)
    }
  })

  it('is refused, and nothing stays open, where the files cannot be', async () => {
    await using temporary = await createTemporaryFolder()
    const file = join(temporary.path, 'file')
    writeFileSync(file, '')
    const options = {
      versionId: CACHE_VERSION_ID,
      sizeBytes: CACHE_SIZE_BYTES,
      limitBytes: BLOCK_BYTES,
      durable: false,
    }
    const inFile = { ...options, folder: join(file, 'write-cache') }
    assert.throws(() => openWriteCacheFiles(inFile), refused(/ENOTDIR/))
    const folder = join(temporary.path, 'write-cache')
    mkdirSync(join(folder, 'table'), { recursive: true })
    const opened = openDescriptors()
    assert.throws(() => openWriteCacheFiles({ ...options, folder }), refused(/EISDIR/))
    assert.equal(openDescriptors(), opened)
  })

  it('says that there is no memory for the entries of a vDisk that is too large', async () => {
    await using temporary = await createTemporaryFolder()
    const folder = join(temporary.path, 'write-cache')
    const options = { folder, versionId: CACHE_VERSION_ID, limitBytes: BLOCK_BYTES, durable: false }
    // 1 TiB of entries.
    const sizeBytes = 2 ** 50
    const expected = { code: 'CLIENT_MEMORY', message: /a vDisk of 1024.00 TiB/ }
    assert.throws(() => openWriteCacheFiles({ ...options, sizeBytes }), expected)
  })
})

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}
