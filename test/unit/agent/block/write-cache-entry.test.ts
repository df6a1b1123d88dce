import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { sectorMask } from '#agent/block/block-size.ts'
import {
  ENTRY_BASE,
  ENTRY_ZERO,
  entryMask,
  entryOffset,
  entrySlot,
  FULL_MASK,
  hasSlot,
  isZeroEntry,
  makeEntry,
  SLOTS_MAX,
  ZERO_MASK,
} from '#agent/block/write-cache-entry.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'

/** What a word is after it lay in shared memory. */
const stored = (entry: number) => new Int32Array([entry])[0] ?? 0

describe('entries of the write cache', () => {
  it('keep slot and mask of every slot there may be', () => {
    for (const slot of [0, 1, 255, 2 ** 23 - 2, 2 ** 23 - 1, 2 ** 23, SLOTS_MAX - 1]) {
      for (const mask of [1, 0x80, 0x55, FULL_MASK]) {
        const entry = stored(makeEntry(slot, mask))
        // Compared as it is, so it must be what was made.
        assert.equal(entry, makeEntry(slot, mask))
        assert.equal(entrySlot(entry), slot)
        assert.equal(entryMask(entry), mask)
        assert.equal(entryOffset(entry), slot * BLOCK_BYTES)
        assert.ok(hasSlot(entry) && !isZeroEntry(entry))
      }
    }
  })

  it('tell base, zero, and zero that still has a slot from each other', () => {
    const zeroWithSlot = (slot: number) => stored(makeEntry(slot, ZERO_MASK))
    assert.ok(!hasSlot(ENTRY_BASE) && !isZeroEntry(ENTRY_BASE))
    assert.equal(stored(ENTRY_ZERO), ENTRY_ZERO)
    assert.ok(!hasSlot(ENTRY_ZERO) && isZeroEntry(ENTRY_ZERO))
    for (const slot of [0, 2 ** 23, SLOTS_MAX - 1]) {
      assert.ok(hasSlot(zeroWithSlot(slot)) && isZeroEntry(zeroWithSlot(slot)), `slot ${slot}`)
      assert.equal(entrySlot(zeroWithSlot(slot)), slot)
    }
  })
})

it('sectorMask has a bit for each sector of the range', () => {
  assert.equal(sectorMask(0, 4096), 0xff)
  assert.equal(sectorMask(0, 512), 1)
  assert.equal(sectorMask(3584, 4096), 0x80)
  assert.equal(sectorMask(512, 1536), 6)
  assert.equal(sectorMask(1024, 1024), 0)
})
