/** The bitmap of slots against a set of numbers. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { createSlotBitmap, SlotBitmap } from '#agent/block/slot-bitmap.ts'

const step = fc.oneof(
  fc.record({ kind: fc.constant('take' as const), count: fc.oneof(fc.nat(5), fc.nat(70)) }),
  fc.record({ kind: fc.constant('free' as const), at: fc.nat() }),
  fc.record({ kind: fc.constant('this' as const), at: fc.nat() }),
)

it('the bitmap gives the lowest free slots, within its limit, and knows where they end', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.nat(200),
      fc.array(step, { maxLength: 60, size: 'max' }),
      (limit, present, steps) => {
        const memory = createSlotBitmap({ limit, present })
        const bitmap = new SlotBitmap(memory)
        const bits = memory.words.byteLength * 8
        const model = new Set<number>()
        for (const each of steps) {
          if (each.kind === 'take') take(bitmap, model, limit, each.count)
          else if (each.kind === 'free') {
            const slot = [...model][each.at % Math.max(1, model.size)]
            if (slot === undefined) continue
            bitmap.free(slot)
            model.delete(slot)
          } else {
            const slot = each.at % bits
            assert.equal(bitmap.takeThis(slot), !model.has(slot))
            model.add(slot)
          }
          // Another thread's view of it.
          assert.equal(new SlotBitmap(memory).taken, model.size)
          assert.equal(bitmap.end(bits), Math.max(0, ...[...model].map((slot) => slot + 1)))
        }
      },
    ),
    { numRuns: 300 },
  )
})

function take(bitmap: SlotBitmap, model: Set<number>, limit: number, count: number): void {
  const slots = new Int32Array(100).fill(-7)
  const fits = model.size + count <= limit
  assert.equal(bitmap.take(slots, count), fits)
  if (!fits) return
  const expected: number[] = []
  for (let slot = 0; expected.length < count; slot += 1) if (!model.has(slot)) expected.push(slot)
  assert.deepEqual([...slots.subarray(0, count)], expected)
  assert.equal(slots[count], -7)
  for (const slot of expected) model.add(slot)
}

it('a slot that is not taken cannot be freed, nor one beyond the bitmap taken', () => {
  const bitmap = new SlotBitmap(createSlotBitmap({ limit: 40, present: 0 }))
  assert.throws(() => bitmap.free(3), /Invariant broken: slot 3 is not taken/)
  assert.throws(() => bitmap.takeThis(64), /Invariant broken: slot 64 has no bit/)
})
