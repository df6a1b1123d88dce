/** The RAM tier against a map of blocks: what it says it has is right, and stays so while it is read. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { BLOCK_BYTES } from '#agent/block/block-size.ts'
import {
  FRAME_ABSENT,
  FRAME_BASE,
  FRAME_ZERO,
  RAM_TIER_BYTES_MIN,
  RamTier,
  type Reservation,
} from '#agent/block/ram-tier.ts'
import { ReaderEpochs, type ReaderSlot } from '#agent/block/reader-epochs.ts'

const FRAMES = RAM_TIER_BYTES_MIN / BLOCK_BYTES
const BLOCKS = 3 * FRAMES

type Step =
  | { readonly kind: 'insert' | 'zeros' | 'cancel'; readonly chunk: number; readonly many: number }
  | { readonly kind: 'read'; readonly block: number; readonly reader: number }
  | { readonly kind: 'idle'; readonly reader: number }

const chunkStep = (kind: 'insert' | 'zeros' | 'cancel') =>
  fc.record({
    kind: fc.constant(kind),
    chunk: fc.nat(BLOCKS),
    many: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 })),
  })
const reader = fc.nat(1)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: chunkStep('insert') },
  { weight: 1, arbitrary: chunkStep('zeros') },
  { weight: 1, arbitrary: chunkStep('cancel') },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('read' as const), block: fc.nat(BLOCKS - 1), reader }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('idle' as const), reader }) },
)

/** Something a reader found and holds until it is idle. */
interface Held {
  readonly block: number
  readonly at: number
}

class Harness {
  readonly #tier = new RamTier(BLOCKS * BLOCK_BYTES, RAM_TIER_BYTES_MIN)
  readonly #index = new Int32Array(this.#tier.memory.index)
  readonly #marks = new Uint8Array(this.#tier.memory.marks)
  readonly #frames = Buffer.from(this.#tier.memory.frames)
  readonly #zeros = new Set<number>()
  readonly #readers: { readonly slot: ReaderSlot; held: Held[] }[]
  readonly #chunkBlocks: number

  constructor(chunkBlocks: number) {
    this.#chunkBlocks = chunkBlocks
    const epochs = new ReaderEpochs(this.#tier.memory.epochs)
    this.#readers = [0, 1].map(() => ({ slot: epochs.claim(), held: [] }))
  }

  run(step: Step): void {
    if (step.kind === 'read') this.#read(step.block, step.reader)
    else if (step.kind === 'idle') this.#idle(step.reader)
    else {
      const count = Math.ceil(BLOCKS / this.#chunkBlocks)
      for (let at = 0; at < step.many; at += 1) this.#change(step.kind, (step.chunk + at) % count)
    }
    this.#check()
  }

  /** With all readers idle, as many chunks as are promised can be on their way at once. */
  finish(): void {
    this.#idle(0)
    this.#idle(1)
    const taken: Reservation[] = []
    for (let count = 0; count < this.#tier.reservationsMax; count += 1) {
      const reservation = this.#tier.reserve(this.#chunkBlocks * BLOCK_BYTES)
      assert.ok(reservation !== undefined, `reservation ${count} of a chunk`)
      taken.push(reservation)
    }
    const frames = taken.flatMap(({ firstFrame, frameCount }) =>
      Array.from({ length: frameCount }, (_, at) => firstFrame + at),
    )
    assert.equal(new Set(frames).size, frames.length, 'no frame is reserved twice')
    for (const reservation of taken) this.#tier.cancel(reservation)
    this.#check()
  }

  #change(kind: 'insert' | 'zeros' | 'cancel', chunk: number): void {
    const firstBlock = chunk * this.#chunkBlocks
    const count = Math.min(this.#chunkBlocks, BLOCKS - firstBlock)
    if (this.#tier.has(firstBlock)) return
    if (kind === 'zeros') {
      this.#tier.publishZeros(firstBlock, count)
      for (let block = firstBlock; block < firstBlock + count; block += 1) this.#zeros.add(block)
      return
    }
    const reservation = this.#tier.reserve(count * BLOCK_BYTES)
    if (reservation === undefined) return
    assert.equal(reservation.offset, reservation.firstFrame * BLOCK_BYTES)
    for (let at = 0; at < count; at += 1) {
      reservation.memory.writeUInt32BE(firstBlock + at + 1, reservation.offset + at * BLOCK_BYTES)
    }
    if (kind === 'insert') this.#tier.publish(reservation, firstBlock)
    else this.#tier.cancel(reservation)
  }

  #read(block: number, reader: number): void {
    const it = this.#readers[reader] ?? assert.fail()
    it.slot.enter()
    const place = this.#index[block] ?? FRAME_ABSENT
    if (place < FRAME_BASE) return
    this.#marks[place - FRAME_BASE] = 1
    it.held.push({ block, at: (place - FRAME_BASE) * BLOCK_BYTES })
  }

  #idle(reader: number): void {
    const it = this.#readers[reader] ?? assert.fail()
    it.held = []
    it.slot.leave()
  }

  #check(): void {
    for (const { held } of this.#readers) {
      for (const { block, at } of held) this.#assertBlock(block, at, 'that a reader holds')
    }
    for (let block = 0; block < BLOCKS; block += 1) {
      const place = this.#index[block] ?? FRAME_ABSENT
      assert.equal(place === FRAME_ZERO, this.#zeros.has(block), `zero block ${block}`)
      if (place >= FRAME_BASE) {
        this.#assertBlock(block, (place - FRAME_BASE) * BLOCK_BYTES, 'that is in the index')
      }
    }
  }

  #assertBlock(block: number, at: number, which: string): void {
    assert.equal(this.#frames.readUInt32BE(at), block + 1, `block ${block} ${which}`)
  }
}

describe('RamTier', () => {
  it('has for each block its bytes or nothing, and changes none under a reader', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 4, 8, 16, 32),
        fc.array(step, { minLength: 1, maxLength: 120 }),
        (chunkBlocks, steps) => {
          const harness = new Harness(chunkBlocks)
          for (const each of steps) harness.run(each)
          harness.finish()
        },
      ),
      { numRuns: 60 },
    )
  })
})
