/** Partition tables as UEFI 2.10, chapter 5 has them; sfdisk checks them in test/e2e/full. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  changeType,
  type DiskBytes,
  type DiskWrite,
  newTable,
  PARTITION_TYPES,
  readPartitions,
} from '#agent/local-disk/gpt.ts'
import { MiB } from '#shared/units.ts'

const SIZE = 100 * MiB + 512

function createDisk(sectorBytes: number, writes: readonly DiskWrite[] = []) {
  const bytes = Buffer.alloc(SIZE)
  apply(bytes, writes)
  const disk: DiskBytes = {
    sizeBytes: SIZE,
    sectorBytes,
    read: async (offset, length) => Buffer.from(bytes.subarray(offset, offset + length)),
  }
  return { bytes, disk }
}

function apply(bytes: Buffer, writes: readonly DiskWrite[]): void {
  for (const { offset, bytes: piece } of writes) piece.copy(bytes, offset)
}

describe('GPT', () => {
  for (const sectorBytes of [512, 4096]) {
    const made = () => newTable({ sizeBytes: SIZE, sectorBytes }, [{ use: 'cache' }])
    const table = () => made().writes

    it(`has one aligned partition of ours when it is new, in sectors of ${sectorBytes}`, async () => {
      const { writes, partitions: named } = made()
      const { disk } = createDisk(sectorBytes, writes)
      const partitions = await readPartitions(disk)
      assert.deepEqual(partitions, named)
      const [partition] = partitions ?? []
      assert.equal(partition?.type, PARTITION_TYPES.cache)
      assert.equal(partition?.number, 1)
      assert.equal((partition?.offsetBytes ?? 1) % MiB, 0)
      assert.ok((partition?.sizeBytes ?? 0) >= 98 * MiB)
    })

    it(`has several partitions of ours behind one another, in sectors of ${sectorBytes}`, async () => {
      const { writes } = newTable({ sizeBytes: SIZE, sectorBytes }, [
        { use: 'writeArea', sizeBytes: 30.5 * MiB },
        { use: 'cache' },
      ])
      const partitions = (await readPartitions(createDisk(sectorBytes, writes).disk)) ?? []
      assert.deepEqual(
        partitions.map(({ number, type }) => [number, type]),
        [
          [1, PARTITION_TYPES.writeArea],
          [2, PARTITION_TYPES.cache],
        ],
      )
      const [area, cache] = partitions
      assert.equal(area?.sizeBytes, 30 * MiB)
      assert.equal(cache?.offsetBytes, (area?.offsetBytes ?? 0) + 30 * MiB)
      assert.ok((cache?.sizeBytes ?? 0) >= 68 * MiB)
    })

    it(`is read by its backup when the first is damaged, in sectors of ${sectorBytes}`, async () => {
      for (const at of [sectorBytes + 60, 2 * sectorBytes + 3]) {
        const { bytes, disk } = createDisk(sectorBytes, table())
        bytes[at] = (bytes[at] ?? 0) ^ 1
        assert.equal((await readPartitions(disk))?.length, 1)
        bytes.fill(0, SIZE - 8192)
        assert.equal(await readPartitions(disk), undefined)
      }
    })

    it(`writes both copies when it makes a partition ours, in sectors of ${sectorBytes}`, async () => {
      const { bytes, disk } = createDisk(sectorBytes, table())
      const [partition] = (await readPartitions(disk)) ?? []
      bytes.fill(0, SIZE - 8192)
      apply(bytes, (await changeType(disk, 1, 'cache')) ?? [])
      bytes.fill(0, 0, 3 * sectorBytes)
      assert.deepEqual((await readPartitions(disk))?.[0], partition)
    })
  }

  it('is none on a disk without one, nor when it points behind the end', async () => {
    const { bytes, disk } = createDisk(512)
    assert.equal(await readPartitions(disk), undefined)
    const table = newTable({ sizeBytes: SIZE, sectorBytes: 512 }, [{ use: 'cache' }])
    apply(bytes, table.writes)
    const shorter = { ...disk, sizeBytes: 2 * MiB }
    assert.deepEqual(await readPartitions(shorter), [])
    assert.equal(await changeType(createDisk(512).disk, 1, 'cache'), undefined)
  })

  it('survives bytes of any kind', async () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const { writes } = newTable({ sizeBytes: SIZE, sectorBytes: 512 }, [{ use: 'cache' }])
      const { bytes, disk } = createDisk(512, writes)
      for (let count = 0; count < 5; count += 1) {
        bytes[512 + ((seed * 97 + count * 31) % 1024)] = (seed * 13 + count * 101) & 0xff
      }
      await readPartitions(disk)
    }
  })
})
