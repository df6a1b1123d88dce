/** The RAM tier against a map of blocks: what it says it has is right, and stays so while it is read. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  FRAME_ABSENT,
  FRAME_BASE,
  FRAME_ZERO,
  RAM_TIER_BYTES_MIN,
  RamTier,
  type Reservation,
} from '#agent/ram-tier/ram-tier.ts'
import { ReaderEpochs, type ReaderSlot } from '#agent/ram-tier/reader-epochs.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

const FRAMES = RAM_TIER_BYTES_MIN / BLOCK_BYTES
const BLOCKS = 3 * FRAMES

type Step =
  | { readonly kind: 'insert' | 'zeros' | 'hold'; readonly chunk: number; readonly frames: number }
  | { readonly kind: 'publish' | 'cancel'; readonly at: number }
  | { readonly kind: 'read'; readonly at: number; readonly reader: number }
  | { readonly kind: 'idle'; readonly reader: number }

const chunkStep = (kind: 'insert' | 'zeros' | 'hold', framesMax: number) =>
  fc.record({ kind: fc.constant(kind), chunk: fc.nat(BLOCKS), frames: fc.nat(framesMax) })
const reader = fc.nat(1)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: chunkStep('insert', FRAMES / 2) },
  { weight: 1, arbitrary: chunkStep('zeros', 64) },
  { weight: 2, arbitrary: chunkStep('hold', 100) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('publish', 'cancel'), at: fc.nat() }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('read' as const), at: fc.nat(), reader }),
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
  readonly #marks = new Uint32Array(this.#tier.memory.marks)
  readonly #frames = Buffer.from(this.#tier.memory.frames)
  readonly #zeros = new Set<number>()
  /** On their way: chunks and the room for them. */
  readonly #reserved: { readonly firstBlock: number; readonly reservation: Reservation }[] = []
  readonly #readers: { readonly slot: ReaderSlot; held: Held[] }[]
  readonly #chunkBlocks: number

  constructor(chunkBlocks: number) {
    this.#chunkBlocks = chunkBlocks
    const epochs = new ReaderEpochs(this.#tier.memory.epochs)
    this.#readers = [0, 1].map(() => ({ slot: epochs.claim(), held: [] }))
  }

  run(step: Step): void {
    if (step.kind === 'read') this.#read(step.at, step.reader)
    else if (step.kind === 'idle') this.#idle(step.reader)
    else if ('at' in step) this.#settle(step.kind, step.at)
    else {
      const count = Math.ceil(BLOCKS / this.#chunkBlocks)
      const end = Math.ceil(step.frames / this.#chunkBlocks)
      for (let at = 0; at < end; at += 1) this.#change(step.kind, (step.chunk + at) % count)
    }
    this.#check()
  }

  /** With all readers idle, as many of the longest chunks as are promised can be on their way. */
  finish(): void {
    this.#idle(0)
    this.#idle(1)
    while (this.#reserved.length > 0) this.#settle('cancel', 0)
    const taken: Reservation[] = []
    for (let count = 0; count < this.#tier.reservationsMax; count += 1) {
      const reservation = this.#tier.reserve(CHUNK_BYTES_MAX)
      assert.ok(reservation !== undefined, `reservation ${count} of a chunk`)
      taken.push(reservation)
    }
    const frames = taken.flatMap(({ firstFrame, frameCount }) =>
      Array.from({ length: frameCount }, (_, at) => firstFrame + at),
    )
    assert.equal(new Set(frames).size, frames.length, 'no frame is reserved twice')
    this.#check()
  }

  #change(kind: 'insert' | 'zeros' | 'hold', chunk: number): void {
    const firstBlock = chunk * this.#chunkBlocks
    const count = Math.min(this.#chunkBlocks, BLOCKS - firstBlock)
    const isOnItsWay = this.#reserved.some((it) => it.firstBlock === firstBlock)
    if (this.#tier.has(firstBlock) || isOnItsWay) return
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
    this.#reserved.push({ firstBlock, reservation })
    if (kind === 'insert') this.#settle('publish', this.#reserved.length - 1)
  }

  #settle(kind: 'publish' | 'cancel', at: number): void {
    const [it] = this.#reserved.splice(at % Math.max(1, this.#reserved.length), 1)
    if (it === undefined) return
    if (kind === 'publish') this.#tier.publish(it.reservation, it.firstBlock)
    else this.#tier.cancel(it.reservation)
  }

  /** Reads one of the blocks that are here. */
  #read(at: number, reader: number): void {
    const it = this.#readers[reader] ?? assert.fail()
    it.slot.enter()
    for (let from = 0; from < BLOCKS; from += 1) {
      const block = (at + from) % BLOCKS
      const place = this.#index[block] ?? FRAME_ABSENT
      if (place < FRAME_BASE) continue
      this.#marks[place - FRAME_BASE] = 1
      it.held.push({ block, at: (place - FRAME_BASE) * BLOCK_BYTES })
      return
    }
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
    for (const { firstBlock, reservation } of this.#reserved) {
      this.#assertBlock(firstBlock, reservation.offset, 'that is on its way')
    }
    for (let block = 0; block < BLOCKS; block += 1) {
      const place = this.#index[block] ?? FRAME_ABSENT
      if ((place === FRAME_ZERO) !== this.#zeros.has(block)) assert.fail(`zero block ${block}`)
      if (place >= FRAME_BASE) {
        this.#assertBlock(block, (place - FRAME_BASE) * BLOCK_BYTES, 'that is in the index')
      }
    }
  }

  #assertBlock(block: number, at: number, which: string): void {
    if (this.#frames.readUInt32BE(at) !== block + 1) assert.fail(`block ${block} ${which}`)
  }
}

describe('RamTier', () => {
  it('has for each block its bytes or nothing, and changes none under a reader', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 4, 8, 16, 32),
        fc.array(step, { minLength: 1, maxLength: 120, size: 'max' }),
        (chunkBlocks, steps) => {
          const harness = new Harness(chunkBlocks)
          for (const each of steps) harness.run(each)
          harness.finish()
        },
      ),
      { numRuns: 100 },
    )
  })
})
