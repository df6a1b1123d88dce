import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { crc32 } from 'node:zlib'
import { CACHE_BYTES_MIN, PAGE_BYTES } from '#agent/disk-cache/cache-layout.ts'
import { formatCache } from '#agent/disk-cache/format-cache.ts'
import { openDiskCache } from '#agent/disk-cache/open-disk-cache.ts'
import { decodeSuperblock, encodeSuperblock } from '#agent/disk-cache/superblock.ts'
import { MiB } from '#shared/units.ts'
import { FaultyDisk } from '#test/support/faulty-disk.ts'

const SIZE_AT = 32
const PAGE = encodeSuperblock({ id: Buffer.alloc(16, 7), sizeBytes: 100 * MiB })

/** With the right checksum, as from a program that knows better, or means harm. */
function changed(change: (page: Buffer) => void): Buffer {
  const page = Buffer.from(PAGE)
  change(page)
  page.writeUInt32BE(crc32(page.subarray(16, 64), crc32(page.subarray(0, 12))), 12)
  return page
}

describe('decodeSuperblock()', () => {
  it('gives what was encoded', () => {
    const { id, sizeBytes } = decodeSuperblock(PAGE) as { id: Buffer; sizeBytes: number }
    assert.deepEqual([id, sizeBytes], [Buffer.alloc(16, 7), 100 * MiB])
  })

  it('refuses a page with any byte changed', () => {
    for (let at = 0; at < 64; at += 1) {
      const page = Buffer.from(PAGE)
      page[at] = (page[at] ?? 0) ^ 0x10
      assert.equal(typeof decodeSuperblock(page), 'string', `byte ${at}`)
    }
  })

  it('refuses sizes and shapes that cannot be, however well they are sealed', () => {
    for (const sizeBytes of [0n, 4096n, BigInt(CACHE_BYTES_MIN - 1), 2n ** 63n]) {
      const page = changed((page) => page.writeBigUInt64BE(sizeBytes, SIZE_AT))
      assert.equal(decodeSuperblock(page), 'its first page says what cannot be', `${sizeBytes}`)
    }
    for (const at of [40, 44, 48, 52]) {
      for (const value of [0, 1, 0xffff_ffff]) {
        const page = changed((page) => page.writeUInt32BE(value, at))
        assert.equal(decodeSuperblock(page), 'its first page says what cannot be', `${at}`)
      }
    }
  })
})

it('openDiskCache() refuses a partition that is smaller than when it was formatted', async () => {
  const whole = new FaultyDisk(CACHE_BYTES_MIN + 16 * MiB)
  await formatCache(whole)
  const smaller = new FaultyDisk(whole.sizeBytes - PAGE_BYTES)
  whole.bytes.copy(smaller.bytes)
  const opening = openDiskCache({
    device: smaller,
    onProblem: () => undefined,
    hasServer: () => true,
  })
  await assert.rejects(opening, { code: 'CACHE_UNUSABLE', message: /it was formatted with/ })
})
