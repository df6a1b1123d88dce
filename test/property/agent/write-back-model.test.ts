/**
 * A client with little room, and a server that takes what it writes, against a flat array of bytes:
 * connections are lost, agents restarted, and machines booted again.
 */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { SECTOR_BYTES } from '#agent/block/block-size.ts'
import { HotOverlay, type HotOverlayData } from '#agent/block/hot-overlay.ts'
import { type Overlay, openOverlay } from '#agent/block/open-overlay.ts'
import { RAM_TIER_BYTES_MIN } from '#agent/ram-tier/ram-tier.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { HonestTransport } from '#test/support/fake-object-transport.ts'
import { FakeWriteServer } from '#test/support/fake-write-server.ts'
import { MemorySink } from '#test/support/memory-sink.ts'
import { MemoryVersion } from '#test/support/memory-version.ts'
import { createTemporaryFolder } from '#test/support/temporary-folder.ts'
import { numberedImage } from '#test/unit/agent/block/overlay-fixture.ts'

/** 40 blocks and a part of one, and room for 16. */
const SIZE_BYTES = 40 * BLOCK_BYTES + 3 * SECTOR_BYTES
const SECTORS = SIZE_BYTES / SECTOR_BYTES
const LIMIT_BYTES = 17 * BLOCK_BYTES

type Step =
  | {
      readonly kind: 'write' | 'zero' | 'trim' | 'read'
      readonly at: number
      readonly count: number
      readonly fill: number
    }
  | { readonly kind: 'lose'; readonly applied: number }
  | { readonly kind: 'flush' | 'restart' | 'boot' | 'turn' }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constantFrom('write', 'write', 'write', 'zero', 'trim', 'read'),
      at: fc.nat(SECTORS - 1),
      count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(8, 40, 64)),
      fill: fc.integer({ min: 1, max: 255 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('lose'), applied: fc.nat(3) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('flush', 'restart', 'boot', 'turn', 'turn') }),
  },
)

class Harness implements AsyncDisposable {
  readonly model: Buffer
  readonly #version: MemoryVersion
  readonly #written = new Set<number>()
  readonly #server = new FakeWriteServer()
  readonly #temporary: Awaited<ReturnType<typeof createTemporaryFolder>>
  #boots = 0
  #overlay!: Overlay
  #hot!: HotOverlay

  constructor(temporary: Awaited<ReturnType<typeof createTemporaryFolder>>) {
    this.#temporary = temporary
    this.#version = new MemoryVersion(numberedImage(SIZE_BYTES))
    this.model = Buffer.from(this.#version.image)
  }

  /** `isBoot`: with nothing but what the server has. */
  async open(isBoot: boolean): Promise<void> {
    if (isBoot) this.#boots += 1
    this.#overlay = await openOverlay({
      root: this.#version.root,
      versionId: this.#version.versionId,
      ramTierBytes: RAM_TIER_BYTES_MIN,
      writeCacheFolder: `${this.#temporary.path}/boot-${this.#boots}`,
      writeCacheLimitBytes: LIMIT_BYTES,
      transport: new HonestTransport(this.#version),
      writeServer: {
        transport: this.#server,
        isKept: true,
        beginShare: 0.5,
        writeMap: isBoot ? this.#server.runs() : [],
      },
      onNotice: (notice) => {
        if (notice.kind === 'write-back-failed') assert.fail(String(notice.error))
      },
    })
    this.#hot = new HotOverlay(this.#overlay.device.hot.data as HotOverlayData)
  }

  async run(step: Step): Promise<void> {
    switch (step.kind) {
      case 'lose':
        this.#server.lose(step.applied)
        return this.#server.open()
      case 'flush':
        return await this.#flush()
      case 'turn':
        return await new Promise((resolve) => setImmediate(resolve))
      case 'restart':
        return await this.#reopen(false)
      case 'boot':
        await this.#flush()
        return await this.#reopen(true)
      case 'write':
      case 'zero':
      case 'trim':
      case 'read':
        await this.#change(step)
    }
  }

  async check(): Promise<void> {
    const bytes = await this.#read(0, SIZE_BYTES)
    for (let at = 0; at < SIZE_BYTES; at += SECTOR_BYTES) {
      const [found, expected] = [bytes, this.model].map((it) => it.subarray(at, at + SECTOR_BYTES))
      assert.ok(found?.equals(expected as Buffer), `sector ${at / SECTOR_BYTES}`)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#hot.close()
    await this.#overlay.close()
  }

  async #reopen(isBoot: boolean): Promise<void> {
    await this[Symbol.asyncDispose]()
    this.#server.lose()
    await this.open(isBoot)
    this.#server.open()
  }

  async #flush(): Promise<void> {
    assert.ok(!this.#hot.flush(), 'a flush waits for the server')
    await this.#cold.flush()
  }

  async #change({ kind, at, count, fill }: Extract<Step, { at: number }>): Promise<void> {
    const offset = at * SECTOR_BYTES
    const length = Math.min(count, SECTORS - at) * SECTOR_BYTES
    if (kind === 'read') {
      const bytes = await this.#read(offset, length)
      assert.ok(
        bytes.equals(this.model.subarray(offset, offset + length)),
        `${length} at ${offset}`,
      )
      return
    }
    const [first, end] = [Math.ceil(offset / BLOCK_BYTES), this.#endOf(offset + length)]
    if (kind === 'write') {
      const bytes = Buffer.alloc(length, fill)
      if (!this.#hot.write(offset, bytes, false)) await this.#cold.write(offset, bytes, false)
      bytes.copy(this.model, offset)
      this.#note(offset, length)
    } else if (kind === 'zero') {
      const isDone = this.#hot.writeZeroes(offset, length, true, false)
      if (!isDone) await this.#cold.writeZeroes(offset, length, true, false)
      this.model.fill(0, offset, offset + length)
      this.#note(offset, length)
    } else {
      if (!this.#hot.trim(offset, length, false)) await this.#cold.trim(offset, length, false)
      for (let block = first; block < end; block += 1) {
        if (this.#written.has(block))
          this.model.fill(0, block * BLOCK_BYTES, Math.min(SIZE_BYTES, (block + 1) * BLOCK_BYTES))
      }
    }
    this.#hot.idle()
  }

  #endOf(offset: number): number {
    return offset === SIZE_BYTES
      ? Math.ceil(offset / BLOCK_BYTES)
      : Math.floor(offset / BLOCK_BYTES)
  }

  #note(offset: number, length: number): void {
    const end = Math.ceil((offset + length) / BLOCK_BYTES)
    for (let block = Math.floor(offset / BLOCK_BYTES); block < end; block += 1)
      this.#written.add(block)
  }

  async #read(offset: number, length: number): Promise<Buffer> {
    const sink = new MemorySink()
    const isHot = this.#hot.read(offset, length, sink)
    const hot = isHot ? Buffer.from(sink.bytes()) : undefined
    this.#hot.idle()
    const target = Buffer.alloc(length)
    await this.#cold.read(offset, target)
    if (hot !== undefined) assert.ok(hot.equals(target), 'both faces agree')
    return target
  }

  get #cold() {
    const { cold } = this.#overlay.device
    assert.ok(cold)
    return cold
  }
}

it('a client with a server behind its write cache has every byte that was written', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }),
      async (steps) => {
        await using temporary = await createTemporaryFolder()
        await using harness = new Harness(temporary)
        await harness.open(true)
        for (const each of steps) await harness.run(each)
        await harness.check()
      },
    ),
    { numRuns: 40 },
  )
})
