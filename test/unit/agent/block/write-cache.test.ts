import assert from 'node:assert/strict'
import { closeSync, fstatSync, openSync } from 'node:fs'
import { constants } from 'node:os'
import { describe, it } from 'node:test'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import { WriteCache } from '#agent/block/write-cache.ts'
import { FILL_LEVELS } from '#agent/block/write-cache-core.ts'
import { CONTROL_FILL_LEVEL } from '#agent/block/write-cache-files.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { MiB } from '#shared/units.ts'
import { CACHE_SIZE_BYTES, createWriteCache } from './write-cache-fixture.ts'

const { ENOSPC, EIO } = constants.errno
const BASE = 0x2e

const blocks = (count: number, fill: string | number) => Buffer.alloc(count * BLOCK_BYTES, fill)

describe('WriteCache', () => {
  it('write keeps sectors, and overlay lays them over the base', async () => {
    await using fixture = await createWriteCache()
    const expected = Buffer.alloc(CACHE_SIZE_BYTES, BASE)
    const write = (sector: number, count: number, fill: string) => {
      fixture.cache.write(sector * SECTOR_BYTES, Buffer.alloc(count * SECTOR_BYTES, fill), false)
      expected.fill(fill, sector * SECTOR_BYTES, (sector + count) * SECTOR_BYTES)
    }
    write(3, 1, 'a')
    write(7, 10, 'b') // the end of a block, all of one, the beginning of a third
    write(3, 2, 'c') // over and beside
    write(80, 3, 'd') // the short last block
    assert.deepEqual(fixture.content(BASE), expected)
    assert.equal(fixture.cache.usedBytes, 4 * BLOCK_BYTES)
    fixture.reopen()
    assert.deepEqual(fixture.content(BASE), expected)
    assert.equal(fixture.cache.usedBytes, 4 * BLOCK_BYTES)
  })

  it('overlay touches only its range, wherever it begins and ends', async () => {
    await using fixture = await createWriteCache()
    fixture.cache.write(0, blocks(1, 'a'), false)
    fixture.cache.write(BLOCK_BYTES + SECTOR_BYTES, Buffer.alloc(SECTOR_BYTES, 'b'), false)
    fixture.cache.writeZeroes(2 * BLOCK_BYTES, BLOCK_BYTES, false)
    const all = fixture.content(BASE)
    for (let begin = 0; begin < 3 * BLOCK_BYTES; begin += SECTOR_BYTES) {
      for (let end = begin + SECTOR_BYTES; end <= 3 * BLOCK_BYTES; end += SECTOR_BYTES) {
        const target = Buffer.alloc(end - begin, BASE)
        fixture.cache.overlay(begin, target)
        assert.deepEqual(target, all.subarray(begin, end), `${begin} to ${end}`)
      }
    }
  })

  it('covers says whether nothing of the base is needed', async () => {
    await using fixture = await createWriteCache()
    const { cache } = fixture
    cache.write(0, Buffer.alloc(BLOCK_BYTES + SECTOR_BYTES, 'a'), false)
    cache.writeZeroes(2 * BLOCK_BYTES, BLOCK_BYTES, false)
    assert.ok(cache.covers(0, BLOCK_BYTES + SECTOR_BYTES))
    assert.ok(cache.covers(2 * BLOCK_BYTES + SECTOR_BYTES, SECTOR_BYTES))
    assert.ok(!cache.covers(0, BLOCK_BYTES + 2 * SECTOR_BYTES))
    assert.ok(!cache.covers(BLOCK_BYTES, 2 * BLOCK_BYTES))
    assert.ok(!cache.covers(3 * BLOCK_BYTES, SECTOR_BYTES))
  })

  it('trim zeroes whole blocks that were written, and nothing else', async () => {
    await using fixture = await createWriteCache()
    const { cache } = fixture
    cache.write(BLOCK_BYTES, blocks(3, 'a'), false)
    assert.equal(cache.trim(SECTOR_BYTES, 3 * BLOCK_BYTES, false), true)
    const expected = Buffer.alloc(CACHE_SIZE_BYTES, BASE)
    expected.fill(0, BLOCK_BYTES, 3 * BLOCK_BYTES)
    expected.fill('a', 3 * BLOCK_BYTES, 4 * BLOCK_BYTES)
    assert.deepEqual(fixture.content(BASE), expected)
    assert.equal(cache.trim(5 * BLOCK_BYTES, 2 * BLOCK_BYTES, false), false)
    fixture.reopen()
    assert.deepEqual(fixture.content(BASE), expected)
    assert.equal(fixture.cache.usedBytes, BLOCK_BYTES)
  })

  it('writeZeroes zeroes every sector of the range, and takes slots only for its ends', async () => {
    for (const [first, count, slots] of [
      [0, 16, 0],
      [3, 16, 2],
      [3, 2, 1],
      [8, 3, 1],
      [80, 3, 0],
      [81, 2, 1],
      [79, 4, 1],
      [3, 8, 2],
    ] as const) {
      await using fixture = await createWriteCache()
      fixture.cache.writeZeroes(first * SECTOR_BYTES, count * SECTOR_BYTES, false)
      const expected = Buffer.alloc(CACHE_SIZE_BYTES, BASE)
      expected.fill(0, first * SECTOR_BYTES, (first + count) * SECTOR_BYTES)
      assert.deepEqual(fixture.content(BASE), expected, `${count} sectors from ${first}`)
      assert.equal(fixture.cache.usedBytes, slots * BLOCK_BYTES)
    }
  })

  it('a part of a zero block is written with zeros around it', async () => {
    await using fixture = await createWriteCache()
    const { cache } = fixture
    // A slot with old bytes in it is the first to be given again.
    cache.write(0, blocks(1, 'old'), false)
    cache.trim(0, BLOCK_BYTES, false)
    cache.releaseZeroed(0, BLOCK_BYTES, cache.drops)
    cache.writeZeroes(BLOCK_BYTES, BLOCK_BYTES, false)
    cache.write(BLOCK_BYTES + SECTOR_BYTES, Buffer.alloc(SECTOR_BYTES, 'new'), false)
    const expected = Buffer.alloc(BLOCK_BYTES)
    expected.fill('new', SECTOR_BYTES, 2 * SECTOR_BYTES)
    assert.deepEqual(fixture.content(BASE).subarray(BLOCK_BYTES, 2 * BLOCK_BYTES), expected)
  })

  it('releaseZeroed gives slots and the end of the file back', async () => {
    await using fixture = await createWriteCache()
    const { cache, memory } = fixture
    cache.write(0, blocks(4, 'a'), false)
    cache.trim(2 * BLOCK_BYTES, 2 * BLOCK_BYTES, false)
    assert.equal(cache.usedBytes, 4 * BLOCK_BYTES)
    cache.releaseZeroed(2 * BLOCK_BYTES, 2 * BLOCK_BYTES, cache.drops)
    assert.equal(cache.usedBytes, 2 * BLOCK_BYTES)
    assert.equal(fstatSync(memory.data.headFd).size, 2 * BLOCK_BYTES)
    // Once more is no harm.
    cache.releaseZeroed(0, CACHE_SIZE_BYTES, cache.drops)
    assert.equal(cache.usedBytes, 2 * BLOCK_BYTES)
  })

  it('a block that is written again after trim keeps its slot when it is released', async () => {
    await using fixture = await createWriteCache()
    const { cache } = fixture
    cache.write(0, blocks(1, 'a'), false)
    cache.trim(0, BLOCK_BYTES, false)
    cache.write(0, blocks(1, 'b'), false)
    cache.releaseZeroed(0, BLOCK_BYTES, cache.drops)
    cache.write(BLOCK_BYTES, blocks(1, 'c'), false)
    assert.deepEqual(fixture.content(BASE).subarray(0, BLOCK_BYTES), blocks(1, 'b'))
  })

  it('write of more than a piece is whole', async () => {
    const sizeBytes = 9 * MiB
    await using fixture = await createWriteCache({ sizeBytes, limitBytes: sizeBytes })
    const bytes = Buffer.from(Array.from({ length: sizeBytes }, (_, at) => at % 251))
    fixture.cache.write(0, bytes, true)
    assert.ok(fixture.content(BASE).equals(bytes))
    fixture.cache.write(SECTOR_BYTES, bytes.subarray(0, 8 * MiB), false)
    bytes.copyWithin(SECTOR_BYTES, 0, 8 * MiB)
    fixture.reopen()
    assert.ok(fixture.content(BASE).equals(bytes))
  })

  it('write is refused with ENOSPC at the limit, and what is there can still be written', async () => {
    await using fixture = await createWriteCache({ limitBytes: 4 * BLOCK_BYTES })
    const { cache } = fixture
    cache.write(0, blocks(3, 'a'), false)
    assert.throws(() => cache.write(3 * BLOCK_BYTES, blocks(2, 'b'), false), { errno: ENOSPC })
    cache.write(0, blocks(3, 'c'), false)
    cache.write(5 * BLOCK_BYTES, blocks(1, 'd'), false)
    assert.throws(() => cache.write(6 * BLOCK_BYTES, blocks(1, 'e'), false), { errno: ENOSPC })
    cache.writeZeroes(6 * BLOCK_BYTES, BLOCK_BYTES, false)
    const expected = Buffer.alloc(CACHE_SIZE_BYTES, BASE)
    expected.fill('c', 0, 3 * BLOCK_BYTES)
    expected.fill('d', 5 * BLOCK_BYTES, 6 * BLOCK_BYTES)
    expected.fill(0, 6 * BLOCK_BYTES, 7 * BLOCK_BYTES)
    assert.deepEqual(fixture.content(BASE), expected)
  })

  it('serves a cache that is larger than its limit, and lets it shrink', async () => {
    await using fixture = await createWriteCache()
    fixture.cache.write(0, blocks(4, 'a'), false)
    fixture.reopen({ limitBytes: 2 * BLOCK_BYTES })
    const { cache } = fixture
    assert.equal(cache.usedBytes, 4 * BLOCK_BYTES)
    cache.write(0, blocks(4, 'b'), false)
    assert.throws(() => cache.write(5 * BLOCK_BYTES, blocks(1, 'c'), false), { errno: ENOSPC })
    cache.trim(0, 3 * BLOCK_BYTES, false)
    cache.releaseZeroed(0, 3 * BLOCK_BYTES, cache.drops)
    cache.write(5 * BLOCK_BYTES, blocks(1, 'c'), false)
    assert.equal(cache.usedBytes, 2 * BLOCK_BYTES)
  })

  for (const file of ['data', 'table'] as const) {
    it(`write takes nothing when there is no room for the ${file}`, async () => {
      await using fixture = await createWriteCache()
      const { memory } = fixture
      const full = openSync('/dev/full', 'r+')
      const cache = new WriteCache({ ...memory, [file]: { ...memory[file], headFd: full } })
      assert.throws(() => cache.write(0, blocks(2, 'a'), false), { errno: ENOSPC })
      assert.equal(cache.usedBytes, 0)
      assert.equal(fstatSync(memory.data.headFd).size, 0)
      closeSync(full)
      fixture.cache.write(0, blocks(2, 'b'), false)
      assert.deepEqual(fixture.content(BASE).subarray(0, 2 * BLOCK_BYTES), blocks(2, 'b'))
    })
  }

  it('write keeps the slots taken when the table cannot be put back', async () => {
    await using fixture = await createWriteCache()
    fixture.cache.write(0, Buffer.alloc(SECTOR_BYTES), false)
    // Reads as zeros: not what the entry of the block that was written must be.
    const full = openSync('/dev/full', 'r+')
    const cache = new WriteCache({
      ...fixture.memory,
      table: { ...fixture.memory.table, headFd: full },
    })
    assert.throws(() => cache.write(0, blocks(2, 'a'), false), { errno: ENOSPC })
    assert.equal(cache.usedBytes, 2 * BLOCK_BYTES)
    closeSync(full)
  })

  it('a failure of another kind is EIO', async () => {
    await using fixture = await createWriteCache()
    const readOnly = openSync('/dev/null', 'r')
    const cache = new WriteCache({
      ...fixture.memory,
      data: { ...fixture.memory.data, headFd: readOnly },
    })
    assert.throws(() => cache.write(0, blocks(1, 'a'), false), { errno: EIO })
    closeSync(readOnly)
  })

  it('the fill level rises at 75, 90 and 100 percent, and falls only well below', async () => {
    const limitBytes = 100 * BLOCK_BYTES
    const sizeBytes = 2 * limitBytes
    await using fixture = await createWriteCache({ sizeBytes, limitBytes })
    const { cache, memory } = fixture
    const level = () => new Int32Array(memory.control)[CONTROL_FILL_LEVEL]
    const drop = (first: number, count: number) => {
      cache.trim(first * BLOCK_BYTES, count * BLOCK_BYTES, false)
      cache.releaseZeroed(first * BLOCK_BYTES, count * BLOCK_BYTES, cache.drops)
    }
    cache.write(0, blocks(74, 'a'), false)
    assert.equal(level(), 0)
    cache.write(74 * BLOCK_BYTES, blocks(1, 'a'), false)
    assert.equal(level(), FILL_LEVELS[0])
    cache.write(75 * BLOCK_BYTES, blocks(24, 'a'), false)
    assert.equal(level(), FILL_LEVELS[1])
    cache.write(99 * BLOCK_BYTES, blocks(1, 'a'), false)
    assert.equal(level(), FILL_LEVELS[2])
    drop(95, 5)
    assert.equal(level(), FILL_LEVELS[2])
    drop(94, 1)
    assert.equal(level(), FILL_LEVELS[1])
    drop(0, 94)
    assert.equal(level(), 0)
  })
})
