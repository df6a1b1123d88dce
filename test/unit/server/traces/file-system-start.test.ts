import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ReadImage } from '#server/traces/ext4.ts'
import { fileSystemStart } from '#server/traces/file-system-start.ts'

const SECTOR = 512

/** Reads an image of a few sectors at the places given; all else is zero. */
function image(sectors: Readonly<Record<number, Buffer>>) {
  return async (offset: number, length: number) => {
    const bytes = Buffer.alloc(length)
    for (const [sector, content] of Object.entries(sectors)) {
      const at = Number(sector) * SECTOR - offset
      if (at >= 0 && at < length) content.copy(bytes, at)
      else if (at < 0 && at + content.length > 0) content.copy(bytes, 0, -at)
    }
    return bytes
  }
}

function mbr(...entries: readonly (readonly [type: number, startSector: number])[]): Buffer {
  const sector = Buffer.alloc(SECTOR)
  for (const [index, [type, start]] of entries.entries()) {
    sector[446 + 16 * index + 4] = type
    sector.writeUInt32LE(start, 446 + 16 * index + 8)
  }
  sector.writeUInt16LE(0xaa55, 510)
  return sector
}

function gpt(entryBytes: number, starts: readonly number[]): Record<'header' | 'entries', Buffer> {
  const header = Buffer.alloc(SECTOR)
  header.write('EFI PART')
  header.writeBigUInt64LE(2n, 72)
  header.writeUInt32LE(starts.length, 80)
  header.writeUInt32LE(entryBytes, 84)
  const entries = Buffer.alloc(entryBytes * starts.length)
  for (const [index, start] of starts.entries()) {
    entries.writeBigUInt64LE(BigInt(start), index * entryBytes + 32)
  }
  return { header, entries }
}

const plain = { fsType: 'ext4', options: '' }

function partitionStart(read: ReadImage, partition: number): Promise<number | undefined> {
  return fileSystemStart(read, { ...plain, partition })
}

describe('fileSystemStart', () => {
  it('is the beginning for a bare file system', async () => {
    assert.equal(await partitionStart(image({}), 0), 0)
  })

  it('finds primary and logical partitions of an MBR', async () => {
    const read = image({
      0: mbr([0x83, 2048], [0x05, 10_000]),
      10_000: mbr([0x83, 100], [0x05, 500]),
      10_500: mbr([0x83, 200]),
    })
    const starts = await Promise.all(
      [1, 2, 3, 5, 6, 7].map((number) => partitionStart(read, number)),
    )
    const sectors = starts.map((start) => start && start / SECTOR)
    assert.deepEqual(sectors, [2048, 10_000, undefined, 10_100, 10_700, undefined])
  })

  it('finds partitions of a GPT, in sectors of either size', async () => {
    const { header, entries } = gpt(128, [2048, 0, 4096])
    const small = image({ 0: mbr([0xee, 1]), 1: header, 2: entries })
    const starts = await Promise.all([1, 2, 3, 4].map((number) => partitionStart(small, number)))
    assert.deepEqual(starts, [2048 * 512, undefined, 4096 * 512, undefined])
    const large = image({ 0: mbr([0xee, 1]), 8: header, 16: entries })
    assert.equal(await partitionStart(large, 3), 4096 * 4096)
  })

  it('follows no chain of tables that never ends, and no table that makes no sense', async () => {
    const loop = image({ 0: mbr([0x05, 10]), 10: mbr([0, 0], [0x05, 0]) })
    assert.equal(await partitionStart(loop, 100), undefined)
    const { header, entries } = gpt(128, [2048])
    header.writeUInt32LE(0xffff_ffff, 84)
    assert.equal(await partitionStart(image({ 1: header, 2: entries }), 1), undefined)
    assert.equal(await partitionStart(image({}), 1), undefined)
  })

  it('finds a logical volume that lies in one piece', async () => {
    const { header, entries } = gpt(128, [2048, 4096])
    const read = image({ 1: header, 2: entries })
    const volume = { name: 'vg-root', uuid: `LVM-${'u'.repeat(64)}` }
    const segment = { partition: 2, startSector: 100, sectors: 8 }
    const start = (...segments: (typeof segment)[]) =>
      fileSystemStart(read, { ...plain, partition: 2, volume: { ...volume, segments } })
    assert.equal(await start(segment), 4196 * 512)
    assert.equal(await start(segment, { ...segment, startSector: 300 }), undefined)
  })
})
