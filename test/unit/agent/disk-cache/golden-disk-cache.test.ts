/** The bytes of a cache partition are those of agent/disk-cache/FORMAT.md, for ever. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { CACHE_BYTES_MIN, layoutOf, PAGE_BYTES } from '#agent/disk-cache/cache-layout.ts'
import { formatCache } from '#agent/disk-cache/format-cache.ts'
import { openDiskCache } from '#agent/disk-cache/open-disk-cache.ts'
import { contentHash } from '#shared/manifest/content-hash.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'
import { FaultyDisk } from '#test/support/faulty-disk.ts'

const GOLDEN = join(import.meta.dirname, '../../../golden/disk-cache/format-1')
const ID = Buffer.from('00112233445566778899aabbccddeeff', 'hex')
const { indexOffset, dataOffset, copyOffset } = layoutOf(CACHE_BYTES_MIN)

/** Name, offset, length. */
const PIECES = [
  ['superblock', 0, PAGE_BYTES],
  ['state-0', PAGE_BYTES, PAGE_BYTES],
  ['state-1', 2 * PAGE_BYTES, PAGE_BYTES],
  ['uses', 4 * PAGE_BYTES, PAGE_BYTES],
  ['index', indexOffset, 4 * PAGE_BYTES],
  ['data', dataOffset, PAGE_BYTES],
  ['superblock-copy', copyOffset, PAGE_BYTES],
] as const

const TEXT = Buffer.from('golden '.repeat(20))
const OBJECT = { encoding: CHUNK_ENCODING.raw, rawBytes: TEXT.length, payload: TEXT }
const PACKED = { encoding: CHUNK_ENCODING.zstd, rawBytes: 9_000, payload: TEXT.subarray(0, 77) }

async function createCache(): Promise<FaultyDisk> {
  const disk = new FaultyDisk(CACHE_BYTES_MIN)
  await formatCache(disk, ID)
  const cache = await open(disk)
  cache.keep(contentHash(TEXT), OBJECT)
  cache.keep(contentHash(Buffer.from('packed')), PACKED)
  await cache.close()
  return disk
}

function open(device: FaultyDisk) {
  return openDiskCache({ device, onProblem: () => undefined, hasServer: () => true, now: () => 0 })
}

describe('a cache partition of format 1', () => {
  it('is written as the golden one', async () => {
    const { bytes } = await createCache()
    for (const [name, offset, length] of PIECES) {
      const piece = bytes.subarray(offset, offset + length)
      assert.ok(readFileSync(join(GOLDEN, name)).equals(piece), name)
    }
  })

  it('is read when another wrote it', async () => {
    const disk = new FaultyDisk(CACHE_BYTES_MIN)
    for (const [name, offset] of PIECES) readFileSync(join(GOLDEN, name)).copy(disk.bytes, offset)
    const cache = await open(disk)
    const found: unknown[] = []
    await cache.read([contentHash(TEXT), contentHash(Buffer.from('packed'))], (index, object) => {
      found[index] = object && { ...object, payload: Buffer.from(object.payload).toString() }
    })
    assert.deepEqual(found, [
      { ...OBJECT, payload: TEXT.toString() },
      { ...PACKED, payload: PACKED.payload.toString() },
    ])
    await cache.close()
  })
})
