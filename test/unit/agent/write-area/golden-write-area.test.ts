import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Directory, decodeDirectory, encodeDirectory } from '#agent/write-area/directory.ts'

const FILE = fileURLToPath(
  new URL('../../../golden/write-area/format-1/directory', import.meta.url),
)

const GOLDEN: Directory = {
  id: Buffer.from('0123456789abcdef'),
  sizeBytes: 10_000_000_000,
  sequence: 7,
  caches: [
    {
      vdisk: 'debian',
      versionId: 'cafe0123',
      sizeBytes: 4_294_967_296,
      table: [3],
      data: [0, 5],
    },
    {
      vdisk: 'v'.repeat(63),
      versionId: 'f'.repeat(64),
      sizeBytes: 100_000_000_000,
      bootId: '00112233445566778899aabbccddeeff',
      table: [],
      data: [1, 4, 2],
    },
  ],
}

describe('the golden directory of a write area of format 1', () => {
  it('is read, and written to the byte', async () => {
    const bytes = await readFile(FILE)
    assert.deepEqual(decodeDirectory(bytes), GOLDEN)
    assert.deepEqual(encodeDirectory(GOLDEN), bytes)
  })

  it('has its fields where FORMAT.md says', async () => {
    const bytes = await readFile(FILE)
    assert.equal(bytes.length, 12_288)
    assert.equal(bytes.toString('latin1', 0, 8), 'bwwarea\n')
    assert.equal(bytes.readUInt32BE(8), 1)
    assert.equal(bytes.toString('latin1', 16, 32), '0123456789abcdef')
    assert.equal(bytes.readUInt32BE(44), 33_554_432)
    // The second write cache: dropped, an id of 64 characters, no table, three extents.
    assert.equal(bytes.toString('hex', 256, 268), '01403f000000000000000003')
    assert.equal(bytes.toString('hex', 280, 296), '00112233445566778899aabbccddeeff')
    const extents = [0, 1, 2, 3, 4, 5, 6].map((it) =>
      bytes.toString('hex', 4096 + 4 * it, 4100 + 4 * it),
    )
    assert.deepEqual(extents, [
      '01020000',
      '02020000',
      '02020002',
      '01010000',
      '02020001',
      '01020001',
      '00000000',
    ])
  })

  it('no changed bit goes unnoticed', async () => {
    const bytes = await readFile(FILE)
    for (let at = 0; at < bytes.length; at += at < 256 ? 1 : 97) {
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8))
      assert.equal(typeof decodeDirectory(bytes), 'string', `byte ${at}`)
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8))
    }
  })
})
