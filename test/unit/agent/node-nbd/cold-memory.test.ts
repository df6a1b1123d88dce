import assert from 'node:assert/strict'
import { it } from 'node:test'
import { ColdMemory, type MemoryRange } from '#agent/node-nbd/cold-memory.ts'

it('ColdMemory hands out ranges from the front and takes holes again', () => {
  const memory = new ColdMemory(1024)
  const [a, b, c] = [memory.take(256), memory.take(100), memory.take(256)]
  assert.deepEqual([a?.at, b?.at, c?.at], [0, 256, 384])
  assert.ok(b)
  memory.giveBack(b)
  assert.equal(memory.take(129)?.at, 640, 'the hole is too short')
  assert.equal(memory.take(128)?.at, 256)
})

it('ColdMemory refuses what does not fit in one piece', () => {
  const memory = new ColdMemory(1024)
  const [a, b] = [memory.take(512), memory.take(512)]
  assert.equal(memory.take(1), undefined)
  assert.ok(a && b)
  memory.giveBack(a)
  assert.equal(memory.take(513), undefined)
  memory.giveBack(b)
  assert.equal(memory.take(1024)?.at, 0)
})

it('ColdMemory never hands out the same byte twice', () => {
  const memory = new ColdMemory(64 * 1024)
  const used: MemoryRange[] = []
  for (let step = 0; step < 5000; step += 1) {
    const range = memory.take(1 + ((step * 7919) % 5000))
    if (range === undefined || step % 3 === 0) {
      const [back] = used.splice((step * 31) % Math.max(1, used.length), 1)
      if (back !== undefined) memory.giveBack(back)
    }
    if (range === undefined) continue
    assert.ok(range.at + range.length <= 64 * 1024)
    for (const other of used) {
      assert.ok(range.at >= other.at + other.length || other.at >= range.at + range.length)
    }
    used.push(range)
  }
})
