import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import { PART_FRAMES, PART_SLOTS, PART_ZEROS, ReadPlan } from '#agent/block/read-plan.ts'
import { ENTRY_ZERO, FULL_MASK, makeEntry } from '#agent/block/write-cache-entry.ts'
import { FRAME_BASE, FRAME_ZERO } from '#agent/ram-tier/ram-tier.ts'
import { monotonicMs, ReadClock } from '#agent/ram-tier/read-clock.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'

const BLOCKS = 2048
const NAMES = { [PART_ZEROS]: 'zeros', [PART_FRAMES]: 'frames', [PART_SLOTS]: 'slots' }

function create() {
  const words = () => new Int32Array(new SharedArrayBuffer(BLOCKS * 4))
  const [frameOf, entries] = [words(), words()]
  const marks = new Uint32Array(new SharedArrayBuffer(BLOCKS * 4))
  const plan = new ReadPlan(frameOf, marks, new ReadClock(monotonicMs() - 5000), entries)
  /** Parts of the range as `kind offset+length`, or false. */
  const parts = (offset: number, length: number) => {
    if (!plan.make(offset, length)) return false
    return Array.from({ length: plan.count }, (_, at) => {
      const name = NAMES[plan.kinds[at] as keyof typeof NAMES]
      return `${name} ${plan.offsets[at]}+${plan.lengths[at]}`
    })
  }
  return { frameOf, entries, marks, parts }
}

describe('ReadPlan', () => {
  it('joins what lies behind each other, and only that', () => {
    const { frameOf, entries, parts } = create()
    frameOf.set([7, 8, 10, 11].map((frame) => FRAME_BASE + frame))
    assert.deepEqual(parts(0, 4 * BLOCK_BYTES), [
      `frames ${7 * BLOCK_BYTES}+${2 * BLOCK_BYTES}`,
      `frames ${10 * BLOCK_BYTES}+${2 * BLOCK_BYTES}`,
    ])
    frameOf.set([FRAME_ZERO, FRAME_ZERO], 4)
    entries.set([ENTRY_ZERO, makeEntry(3, FULL_MASK), makeEntry(4, FULL_MASK)], 6)
    assert.deepEqual(parts(3 * BLOCK_BYTES + SECTOR_BYTES, 5 * BLOCK_BYTES + SECTOR_BYTES), [
      `frames ${11 * BLOCK_BYTES + SECTOR_BYTES}+${BLOCK_BYTES - SECTOR_BYTES}`,
      `zeros 0+${3 * BLOCK_BYTES}`,
      `slots ${3 * BLOCK_BYTES}+${BLOCK_BYTES + 2 * SECTOR_BYTES}`,
    ])
  })

  it('takes each sector of a block from where it is', () => {
    const { frameOf, entries, parts } = create()
    frameOf[1] = FRAME_BASE + 5
    entries[1] = makeEntry(9, 0b0110_0010)
    const [frame, slot] = [5 * BLOCK_BYTES, 9 * BLOCK_BYTES]
    assert.deepEqual(parts(BLOCK_BYTES, BLOCK_BYTES), [
      `frames ${frame}+512`,
      `slots ${slot + 512}+512`,
      `frames ${frame + 1024}+1536`,
      `slots ${slot + 2560}+1024`,
      `frames ${frame + 3584}+512`,
    ])
    assert.deepEqual(parts(BLOCK_BYTES + 2560, 1024), [`slots ${slot + 2560}+1024`])
  })

  it('makes nothing of a range of which a part is not here', () => {
    const { frameOf, entries, parts } = create()
    frameOf[0] = FRAME_BASE
    assert.equal(parts(0, BLOCK_BYTES + SECTOR_BYTES), false)
    entries[1] = makeEntry(0, 0b1)
    assert.deepEqual(parts(0, BLOCK_BYTES + SECTOR_BYTES), ['frames 0+4096', 'slots 0+512'])
    assert.equal(parts(0, BLOCK_BYTES + 2 * SECTOR_BYTES), false)
    // A slot that a zero block still has is not read.
    entries[1] = makeEntry(0, 0)
    assert.deepEqual(parts(BLOCK_BYTES, BLOCK_BYTES), ['zeros 0+4096'])
  })

  it('marks the frames it reads, and no others', () => {
    const { frameOf, entries, marks, parts } = create()
    frameOf.set([FRAME_BASE + 3, FRAME_BASE + 4, FRAME_BASE + 5])
    entries[1] = makeEntry(0, FULL_MASK)
    parts(SECTOR_BYTES, 2 * BLOCK_BYTES)
    const marked = [...marks.subarray(0, 8)]
    assert.deepEqual(
      marked.map((mark) => mark > 0),
      [false, false, false, true, false, true, false, false],
    )
    // With the time since the vDisk was opened, and only the first.
    assert.ok(marked.every((mark) => mark === 0 || (mark >= 5000 && mark < 60_000)))
    marks[3] = 17
    parts(0, 3 * BLOCK_BYTES)
    assert.equal(marks[3], 17)
  })

  it('grows for a read of many parts, and is used again for one of few', () => {
    const { frameOf, parts } = create()
    for (let block = 0; block < BLOCKS; block += 1)
      frameOf[block] = FRAME_BASE + ((block * 3) % BLOCKS)
    const all = parts(0, BLOCKS * BLOCK_BYTES)
    assert.ok(all !== false && all.length > 1024)
    const expected = frameOf.slice(1000, 1002).map((place) => (place - FRAME_BASE) * BLOCK_BYTES)
    assert.deepEqual(all.slice(1000, 1001), [`frames ${expected[0]}+4096`])
    assert.deepEqual(parts(0, SECTOR_BYTES), ['frames 0+512'])
  })
})
