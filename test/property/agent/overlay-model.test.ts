/** The overlay against a flat array of bytes: whatever is done to it in whatever order. */

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { it } from 'node:test'
import fc from 'fast-check'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import { HotOverlay, type HotOverlayData } from '#agent/block/hot-overlay.ts'
import { type Overlay, openOverlay } from '#agent/block/open-overlay.ts'
import { RAM_TIER_BYTES_MIN } from '#agent/ram-tier/ram-tier.ts'
import type { CutParameters } from '#shared/chunk/chunk-cutting.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { CUT_TODAY } from '#shared/manifest/version-root.ts'
import { KiB, MiB } from '#shared/units.ts'
import { FakeObjectTransport } from '#test/support/fake-object-transport.ts'
import { MemorySink } from '#test/support/memory-sink.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'

/** Twice the smallest RAM tier, so that chunks are evicted; ends within a block and within a chunk. */
const SIZE_BYTES = 2 * RAM_TIER_BYTES_MIN + 37 * KiB + 512
const SECTORS = SIZE_BYTES / SECTOR_BYTES
/** A part of the device gets most of the requests, so that they meet. */
const BUSY_SECTORS = 512
const cutOf = (blocks: number): CutParameters => ({
  minBlocks: blocks,
  rareUntilBlocks: blocks,
  rareOneIn: 1,
  oneIn: 1,
  maxBlocks: blocks,
  zeroRunBlocks: 4,
})
const CUTS = [cutOf(1), CUT_TODAY, cutOf(32)]

type Step =
  | { readonly kind: 'read'; readonly at: number; readonly count: number }
  | { readonly kind: 'write'; readonly at: number; readonly count: number; readonly fill: number }
  | { readonly kind: 'trim' | 'zero'; readonly at: number; readonly count: number }
  | { readonly kind: 'answer'; readonly count: number }
  | { readonly kind: 'scan' | 'lose' | 'idle' | 'reopen' | 'extents' }

const range = fc.record({
  at: fc.oneof(
    { weight: 4, arbitrary: fc.nat(BUSY_SECTORS) },
    { weight: 1, arbitrary: fc.nat(SECTORS - 1) },
    { weight: 1, arbitrary: fc.integer({ min: SECTORS - 100, max: SECTORS - 1 }) },
  ),
  count: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(8, 64, 400)),
})

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: range.map((it) => ({ kind: 'read', ...it }) as const) },
  {
    weight: 6,
    arbitrary: fc
      .tuple(range, fc.nat(255))
      .map(([it, fill]) => ({ kind: 'write', ...it, fill }) as const),
  },
  { weight: 2, arbitrary: range.map((it) => ({ kind: 'trim', ...it }) as const) },
  { weight: 2, arbitrary: range.map((it) => ({ kind: 'zero', ...it }) as const) },
  { weight: 3, arbitrary: fc.nat(6).map((count) => ({ kind: 'answer', count }) as const) },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom('scan', 'lose', 'idle', 'reopen', 'extents')
      .map((kind) => ({ kind })),
  },
)

class Harness implements AsyncDisposable {
  readonly model: Buffer
  /** Which blocks were ever written: trim changes only these. */
  readonly #written = new Uint8Array(Math.ceil(SIZE_BYTES / BLOCK_BYTES))
  readonly #version: MemoryVersion
  readonly #folder: string
  readonly #reads: Promise<void>[] = []
  #transport: FakeObjectTransport
  #overlay!: Overlay
  #hot!: HotOverlay

  constructor(version: MemoryVersion, folder: string) {
    this.#version = version
    this.model = Buffer.from(version.image)
    this.#folder = folder
    this.#transport = new FakeObjectTransport(version)
  }

  async open(): Promise<this> {
    this.#transport = new FakeObjectTransport(this.#version)
    this.#overlay = await openOverlay({
      root: this.#version.root,
      versionId: this.#version.versionId,
      ramTierBytes: RAM_TIER_BYTES_MIN,
      writeCacheFolder: this.#folder,
      writeCacheLimitBytes: 64 * MiB,
      transport: this.#transport,
      onNotice: (notice) => assert.fail(`unexpected notice ${notice.kind}`),
    })
    this.#hot = new HotOverlay(this.#overlay.device.hot.data as HotOverlayData)
    return this
  }

  async run(step: Step): Promise<void> {
    switch (step.kind) {
      case 'read':
        return this.#read(step.at * SECTOR_BYTES, this.#length(step.at, step.count))
      case 'write':
        return this.#write(step.at * SECTOR_BYTES, this.#length(step.at, step.count), step.fill)
      case 'trim':
        return this.#trim(step.at * SECTOR_BYTES, this.#length(step.at, step.count))
      case 'zero':
        return this.#zero(step.at * SECTOR_BYTES, this.#length(step.at, step.count))
      case 'answer':
        return this.#answer(step.count)
      case 'scan':
        return this.#scan()
      case 'lose':
        this.#transport.lose()
        this.#transport.open()
        return
      case 'idle':
        return this.#hot.idle()
      case 'reopen':
        return this.#reopen()
      case 'extents':
        return this.#checkExtents()
    }
  }

  async settle(): Promise<void> {
    this.#hot.idle()
    while (this.#reads.length > 0) {
      this.#transport.answerAll()
      const [read] = this.#reads
      // Answers make room for more requests, which come a turn later.
      await Promise.race([read, new Promise(setImmediate)])
      if (this.#transport.pending.length === 0) await this.#reads.shift()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#hot.close()
    await this.#overlay.close()
  }

  #length(at: number, count: number): number {
    return Math.min(count, SECTORS - at) * SECTOR_BYTES
  }

  #read(offset: number, length: number): void {
    const expected = Buffer.from(this.model.subarray(offset, offset + length))
    const sink = new MemorySink()
    if (this.#hot.read(offset, length, sink)) {
      assert.ok(sink.bytes().equals(expected), `hot read of ${length} at ${offset}`)
      return
    }
    assert.equal(sink.calls.length, 0, 'nothing is appended by a read that is not answered')
    const target = Buffer.alloc(length, 0x55)
    const read = this.#overlay.device.cold?.read(offset, target) ?? assert.fail('no cold device')
    // Writes that come while it waits may be in it or not; then its bytes are checked one by one.
    const modelAtEnd = () => this.model.subarray(offset, offset + length)
    this.#reads.push(read.then(() => assertEither(target, expected, modelAtEnd())))
  }

  #write(offset: number, length: number, fill: number): void {
    const bytes = Buffer.from(Array.from({ length }, (_, at) => (fill + at * 7) & 0xff))
    assert.ok(this.#hot.write(offset, bytes, fill % 2 === 0))
    bytes.copy(this.model, offset)
    this.#written.fill(
      1,
      Math.floor(offset / BLOCK_BYTES),
      Math.ceil((offset + length) / BLOCK_BYTES),
    )
  }

  #zero(offset: number, length: number): void {
    assert.ok(this.#hot.writeZeroes(offset, length, true, false))
    this.model.fill(0, offset, offset + length)
    this.#written.fill(
      1,
      Math.floor(offset / BLOCK_BYTES),
      Math.ceil((offset + length) / BLOCK_BYTES),
    )
  }

  #trim(offset: number, length: number): void {
    assert.ok(this.#hot.trim(offset, length, false))
    for (let block = Math.ceil(offset / BLOCK_BYTES); ; block += 1) {
      const end = Math.min((block + 1) * BLOCK_BYTES, SIZE_BYTES)
      if (end > offset + length || block * BLOCK_BYTES >= SIZE_BYTES) return
      if (this.#written[block] === 1) this.model.fill(0, block * BLOCK_BYTES, end)
    }
  }

  async #answer(count: number): Promise<void> {
    for (let at = 0; at < count && this.#transport.pending.length > 0; at += 1) {
      this.#transport.answer((at * 5) % this.#transport.pending.length)
    }
    await new Promise(setImmediate)
  }

  /** Reads all of the device, so that all it holds is evicted. */
  async #scan(): Promise<void> {
    await this.settle()
    for (let offset = 0; offset < SIZE_BYTES; offset += 512 * KiB) {
      this.#read(offset, Math.min(512 * KiB, SIZE_BYTES - offset))
      await this.settle()
    }
  }

  /** What a new process after a kill finds. */
  async #reopen(): Promise<void> {
    await this.settle()
    await this[Symbol.asyncDispose]()
    await this.open()
  }

  #checkExtents(): void {
    let at = 0
    for (const extent of this.#hot.extents(0, SIZE_BYTES)) {
      const end = at + extent.lengthBytes
      if (extent.zero) assert.ok(this.model.subarray(at, end).every((byte) => byte === 0))
      at = end
    }
    assert.equal(at, SIZE_BYTES)
  }
}

function assertEither(actual: Buffer, before: Buffer, after: Buffer): void {
  for (let at = 0; at < actual.length; at += 1) {
    if (actual[at] !== before[at] && actual[at] !== after[at]) {
      assert.fail(`byte ${at} of a cold read is neither what was before it nor what is after it`)
    }
  }
}

it('the overlay is a flat array of bytes whatever is done to it', async () => {
  const image = imageWithZeros()
  const versions = CUTS.map((cut) => new MemoryVersion(image, { cut }))
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...versions),
      fc.array(step, { minLength: 1, maxLength: 60 }),
      async (version, steps) => {
        await using folder = await createTemporaryFolder()
        await using harness = await new Harness(version, folder.path).open()
        for (const each of steps) await harness.run(each)
        await harness.settle()
        await harness.run({ kind: 'reopen' })
        await harness.run({ kind: 'scan' })
      },
    ),
    { numRuns: 25 },
  )
})

/** Noise, text and holes, so that chunks of every encoding come. */
function imageWithZeros(): Buffer {
  const image = Buffer.alloc(SIZE_BYTES, 'a vDisk ')
  for (let offset = 0; offset < SIZE_BYTES - 200 * KiB; offset += 384 * KiB) {
    randomFillSync(image, offset, Math.min(128 * KiB, SIZE_BYTES - offset))
    image.fill(0, offset + 200 * KiB, Math.min(offset + 340 * KiB, SIZE_BYTES))
  }
  return image
}
