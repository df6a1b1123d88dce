import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { describe, it } from 'node:test'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { MemorySink } from '#test/support/memory-sink.ts'
import { CHUNK_BYTES, createOverlay, type OverlayFixture } from './overlay-fixture.ts'

const { EINVAL, EPERM } = constants.errno

const blocks = (count: number, fill: string) => Buffer.alloc(count * BLOCK_BYTES, fill)

/** Reads a block that comes at once. */
async function readWell({ cold, transport }: OverlayFixture, offsetBytes: number): Promise<void> {
  const read = cold.read(offsetBytes, Buffer.alloc(BLOCK_BYTES))
  transport.answerAll()
  await read
}

describe('ColdOverlay', () => {
  it('read waits for all chunks of its range, in whatever order they come', async () => {
    await using fixture = await createOverlay()
    const { cold, transport, image } = fixture
    await readWell(fixture, 15 * CHUNK_BYTES) // the leaf is here
    const target = Buffer.alloc(2 * CHUNK_BYTES)
    const read = cold.read(CHUNK_BYTES / 2, target)
    assert.deepEqual(
      transport.pending.map(({ position }) => position),
      [0, 16, 32],
    )
    for (const at of [2, 0, 0]) transport.answer(at)
    await read
    assert.ok(target.equals(image.subarray(CHUNK_BYTES / 2, 2.5 * CHUNK_BYTES)))
  })

  it('reads of one chunk ask for it once, and all get it', async () => {
    await using fixture = await createOverlay()
    const { cold, transport, image, overlay } = fixture
    const targets = [0, 1, 2].map(() => Buffer.alloc(BLOCK_BYTES))
    const reads = targets.map((target, at) => cold.read(at * BLOCK_BYTES, target))
    assert.equal(transport.pending.filter(({ level }) => level === 0).length, 1)
    transport.answerAll()
    await Promise.all(reads)
    assert.ok(Buffer.concat(targets).equals(image.subarray(0, 3 * BLOCK_BYTES)))
    const { demandReads, demandReadBytes, chunksReceived } = overlay.stats()
    assert.deepEqual([demandReads, demandReadBytes, chunksReceived], [3, 3 * BLOCK_BYTES, 1])
  })

  it('read needs no block that is here, or of which the write cache has its part', async () => {
    await using fixture = await createOverlay()
    const { cold, transport, overlay } = fixture
    await cold.write(0, blocks(2, 'w'), false)
    const target = Buffer.alloc(2 * BLOCK_BYTES)
    await cold.read(0, target)
    assert.ok(target.equals(blocks(2, 'w')))
    assert.equal(transport.requests.length, 0)
    assert.equal(overlay.stats().demandReads, 0)
    const read = cold.read(BLOCK_BYTES, target)
    transport.answerAll()
    await read
    await cold.read(CHUNK_BYTES - BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES))
    assert.equal(overlay.stats().chunksReceived, 1)
  })

  it('read has what was written while it waited', async () => {
    await using fixture = await createOverlay()
    const { cold, transport, image } = fixture
    const target = Buffer.alloc(BLOCK_BYTES)
    const read = cold.read(0, target)
    await cold.write(SECTOR_BYTES, Buffer.alloc(SECTOR_BYTES, 'w'), false)
    transport.answerAll()
    await read
    const expected = Buffer.from(image.subarray(0, BLOCK_BYTES))
    expected.fill('w', SECTOR_BYTES, 2 * SECTOR_BYTES)
    assert.ok(target.equals(expected))
  })

  it('read waits until its chunk comes as it should, and others do not', async () => {
    await using fixture = await createOverlay()
    const { cold, transport, notices, image } = fixture
    await readWell(fixture, 15 * CHUNK_BYTES)
    const target = Buffer.alloc(SECTOR_BYTES)
    const bad = cold.read(0, target)
    const good = cold.read(CHUNK_BYTES, Buffer.alloc(SECTOR_BYTES))
    transport.answerWith(0, ({ header }) => ({ header, payload: Buffer.alloc(header.storedBytes) }))
    transport.answer(0)
    await good
    transport.answerAll()
    await bad
    assert.ok(target.equals(image.subarray(0, SECTOR_BYTES)))
    assert.deepEqual(
      notices.map((notice) => notice.kind),
      ['objects-corrupt'],
    )
  })

  it('reads that wait are rejected when the overlay is closed', async () => {
    const fixture = await createOverlay()
    const read = assert.rejects(fixture.cold.read(0, Buffer.alloc(SECTOR_BYTES)), {
      name: 'AbortError',
    })
    await fixture[Symbol.asyncDispose]()
    await read
  })

  it('ranges that leave the device or cut a sector are EINVAL', async () => {
    await using fixture = await createOverlay()
    const { cold, image } = fixture
    for (const [offset, length] of [
      [1, 512],
      [0, 511],
      [image.length, 512],
      [-512, 512],
      [Number.NaN, 512],
    ] as const) {
      const refused = { errno: EINVAL }
      await assert.rejects(cold.read(offset, Buffer.alloc(length)), refused)
      await assert.rejects(cold.write(offset, Buffer.alloc(length), false), refused)
      await assert.rejects(cold.trim(offset, length, false), refused)
      await assert.rejects(cold.writeZeroes(offset, length, true, false), refused)
    }
  })

  it('every change of a read-only device is EPERM', async () => {
    await using fixture = await createOverlay({ readOnly: true })
    const { cold } = fixture
    const hot = fixture.openHot()
    const refused = { errno: EPERM }
    await assert.rejects(cold.write(0, Buffer.alloc(512), false), refused)
    await assert.rejects(cold.trim(0, 512, false), refused)
    await assert.rejects(cold.writeZeroes(0, 512, true, false), refused)
    assert.throws(() => hot.write(0, Buffer.alloc(512), false), refused)
    assert.throws(() => hot.trim(0, 512, false), refused)
    assert.throws(() => hot.writeZeroes(0, 512, true, false), refused)
    await cold.flush()
    assert.ok(hot.flush())
  })

  it('trim gives slots back only when no other worker can be reading them', async () => {
    await using fixture = await createOverlay()
    const { cold, overlay } = fixture
    const [writer, reader] = [fixture.openHot(), fixture.openHot()]
    writer.write(0, blocks(1, 'w'), false)
    assert.ok(reader.read(0, BLOCK_BYTES, new MemorySink()))
    assert.equal(writer.trim(0, BLOCK_BYTES, false), false)
    const trim = cold.trim(0, BLOCK_BYTES, false)
    await new Promise(setImmediate)
    assert.equal(overlay.stats().writeCacheBytes, BLOCK_BYTES)
    reader.idle()
    await trim
    assert.equal(overlay.stats().writeCacheBytes, 0)
  })

  it('trim does not give back a slot that was written and dropped again meanwhile', async () => {
    await using fixture = await createOverlay()
    const { cold, overlay } = fixture
    const [writer, early, late] = [fixture.openHot(), fixture.openHot(), fixture.openHot()]
    writer.write(0, blocks(1, 'a'), false)
    assert.ok(early.read(0, BLOCK_BYTES, new MemorySink()))
    const trim = cold.trim(0, BLOCK_BYTES, false)
    writer.write(0, blocks(1, 'b'), false)
    // May still be at the slot, and became active after the first trim.
    assert.ok(late.read(0, BLOCK_BYTES, new MemorySink()))
    assert.equal(writer.trim(0, BLOCK_BYTES, false), false)
    early.idle()
    await new Promise(setImmediate)
    assert.equal(overlay.stats().writeCacheBytes, BLOCK_BYTES)
    late.idle()
    await trim
    assert.equal(overlay.stats().writeCacheBytes, 0)
  })

  it('a trim whose readers are idle is done at once', async () => {
    await using fixture = await createOverlay()
    const [writer, reader] = [fixture.openHot(), fixture.openHot()]
    writer.write(0, blocks(2, 'w'), false)
    assert.ok(reader.read(0, BLOCK_BYTES, new MemorySink()))
    reader.idle()
    // Its own reads are no hindrance.
    assert.ok(writer.read(0, BLOCK_BYTES, new MemorySink()))
    assert.ok(writer.trim(0, BLOCK_BYTES, false))
    assert.ok(writer.writeZeroes(BLOCK_BYTES, BLOCK_BYTES, true, false))
    assert.equal(fixture.overlay.stats().writeCacheBytes, 0)
  })
})
