/**
 * The fetcher against the image itself, with a server that does everything wrong that can be done:
 * answers in any order, twice, damaged, too long, too short, unreadable, of other objects, and
 * connections that are lost. Never a wrong byte; and all comes once the server is honest, and leaves
 * nothing behind that anything could wait for.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it, mock } from 'node:test'
import fc from 'fast-check'
import { Fetcher } from '#agent/fetch/fetcher.ts'
import { PAUSE_MS_MAX } from '#agent/fetch/object-fetch.ts'
import { RAM_TIER_BYTES_MIN, RamTier } from '#agent/ram-tier/ram-tier.ts'
import { BLOCK_BYTES, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { KiB, MiB } from '#shared/units.ts'
import {
  CHUNK_ENCODING,
  NO_PAYLOAD,
  OBJECT_HEADER_BYTES,
  OBJECTS_HEADER_BYTES,
  readObjects,
  writeObjectHeader,
  writeObjectsHeader,
} from '#shared/wire/frame.ts'
import { FakeObjectTransport } from '#test/support/fake-object-transport.ts'
import { MemoryDiskCache } from '#test/support/memory-disk-cache.ts'
import { MemoryVersion, type StoredObject } from '#test/support/memory-version.ts'
import { assertBlocks, fillWithText } from '#test/unit/agent/fetch/fetch-fixture.ts'

const version = new MemoryVersion(createImage())
const BLOCKS = Math.ceil(version.sizeBytes / BLOCK_BYTES)
const list = version.bootList(version.chunks.map(({ firstBlock }) => firstBlock))

/** Data at both sides of a span's end, zeros, a span of zeros, an odd end: chunks of all kinds. */
function createImage(): Buffer {
  const image = Buffer.alloc(49 * MiB + 1000)
  fillWithText(image, 0, 300 * KiB)
  fillWithText(image, 16 * MiB - 200 * KiB, 400 * KiB)
  fillWithText(image, 48 * MiB, MiB + 1000)
  image.fill(0, 100 * KiB, 104 * KiB)
  return image
}

const LIES = [
  'damaged',
  'long',
  'short',
  'unreadable',
  'absent',
  'other',
  'bomb',
  'renamed',
] as const
type Lie = (typeof LIES)[number]

type Step =
  | { readonly kind: 'demand'; readonly first: number; readonly blocks: number }
  | { readonly kind: 'readahead'; readonly first: number }
  | { readonly kind: 'answer' | 'twice'; readonly at: number }
  | { readonly kind: 'lie'; readonly at: number; readonly lie: Lie; readonly seed: number }
  | { readonly kind: 'unasked'; readonly seed: number; readonly lie: Lie | undefined }
  | { readonly kind: 'keep'; readonly seed: number }
  | { readonly kind: 'leaf'; readonly position: number }
  | { readonly kind: 'pass'; readonly ms: number }
  | { readonly kind: 'lose' | 'turn' | 'damage-disk' | 'read' | 'end-boot' }

const block = fc.oneof(
  fc.nat(80),
  fc.integer({ min: SPAN_BLOCKS - 60, max: SPAN_BLOCKS + 60 }),
  fc.integer({ min: 3 * SPAN_BLOCKS, max: BLOCKS - 1 }),
  fc.nat(BLOCKS - 1),
)
const lie = fc.constantFrom(...LIES)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('demand' as const),
      first: block,
      blocks: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 64 })),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('readahead' as const), first: block }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom('answer' as const, 'twice' as const),
      at: fc.nat(20),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('lie' as const),
      at: fc.nat(20),
      lie,
      seed: fc.nat(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('unasked' as const),
      seed: fc.nat(),
      lie: fc.option(lie, { nil: undefined }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('keep' as const), seed: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('leaf' as const), position: fc.nat(3) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('pass' as const),
      ms: fc.oneof(fc.nat(200), fc.constant(31_000)),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'lose' as const,
        'turn' as const,
        'damage-disk' as const,
        'read' as const,
        'end-boot' as const,
      ),
    }),
  },
)

/** What an honest server's agent does: no lies, nothing that was not asked for. */
const honestStep = step.filter(({ kind }) => kind !== 'lie' && kind !== 'unasked')

/** What a hostile server makes of an object. */
function lieAbout({ header, payload }: StoredObject, lie: Lie, seed: number): StoredObject {
  const copy = Uint8Array.from(payload)
  const { raw, zstd } = CHUNK_ENCODING
  switch (lie) {
    case 'damaged': {
      const at = seed % Math.max(1, copy.length)
      if (copy.length > 0) copy[at] = (copy[at] ?? 0) ^ (1 + (seed % 255))
      return { header, payload: copy }
    }
    case 'long': {
      const longer = Buffer.concat([copy, Buffer.alloc(1 + (seed % 9000), 7)])
      const rawBytes = Math.max(longer.length, header.rawBytes)
      const encoding = seed % 2 === 0 ? zstd : raw
      return withPayload({ ...header, encoding, rawBytes }, longer)
    }
    case 'short':
      return withPayload(header, copy.subarray(0, seed % Math.max(1, copy.length)))
    case 'unreadable':
    case 'absent':
      return {
        header: { ...header, encoding: NO_PAYLOAD[lie], rawBytes: 0, storedBytes: 0 },
        payload: new Uint8Array(0),
      }
    case 'other': {
      const other = version.object(list[seed % list.length] ?? header)
      return {
        header: { ...other.header, level: header.level, position: header.position },
        payload: other.payload,
      }
    }
    case 'bomb':
      return {
        header: { ...header, encoding: zstd, rawBytes: 4096 + (seed % 100_000) },
        payload: copy,
      }
    case 'renamed':
      return {
        header: { ...header, position: (header.position + 1 + seed) % 2 ** 32 },
        payload: copy,
      }
  }
}

function withPayload(header: StoredObject['header'], payload: Uint8Array): StoredObject {
  return { header: { ...header, storedBytes: payload.length }, payload }
}

class Harness {
  readonly #tier = new RamTier(version.sizeBytes, RAM_TIER_BYTES_MIN)
  readonly #disk = new MemoryDiskCache()
  readonly #transport: FakeObjectTransport
  readonly #fetcher: Fetcher
  #missing = 0
  /** Of what somebody wants for the local disk. */
  #unsettled = 0

  /** Without memory for leaves each one pushes the one before it out. */
  constructor(isBoot: boolean, hasDisk: boolean, hasLeafMemory: boolean) {
    this.#transport = new FakeObjectTransport(version, { ...(isBoot && { bootList: list }) })
    this.#fetcher = new Fetcher({
      root: version.root,
      tier: this.#tier,
      transport: this.#transport,
      diskCache: hasDisk ? this.#disk : undefined,
      readahead: true,
      isBoot,
      leafMemoryBytesMax: hasLeafMemory ? undefined : 1,
      onFault: () => undefined,
    })
  }

  async run(step: Step): Promise<void> {
    const { pending } = this.#transport
    switch (step.kind) {
      case 'demand':
        return this.#demand(step.first, Math.min(BLOCKS, step.first + step.blocks))
      case 'readahead':
        return this.#fetcher.readAhead(step.first, step.first + 1)
      case 'answer':
        if (pending.length > 0) this.#transport.answer(step.at % pending.length)
        return
      case 'twice':
        if (pending.length > 0) this.#twice(step.at % pending.length)
        return
      case 'lie':
        if (pending.length > 0) this.#lie(step.at % pending.length, step.lie, step.seed)
        return
      case 'unasked':
        return this.#unasked(step)
      case 'lose':
        this.#transport.lose()
        this.#transport.open()
        return
      case 'turn':
        return await new Promise(setImmediate)
      case 'damage-disk':
        return this.#disk.damageAll()
      case 'keep':
        return this.#keep(step.seed)
      case 'leaf':
        return this.#settles(this.#fetcher.background.leaf(step.position))
      case 'pass':
        return pass(step.ms)
      case 'read':
        return this.#read()
      case 'end-boot':
        return this.#fetcher.endBoot()
    }
  }

  /** The server has lied, and is another one now. */
  reconnect(): void {
    this.#transport.lose()
    this.#transport.open()
  }

  /** From now on the server is honest: all that waits must come, and nothing be left. */
  async settle(): Promise<void> {
    this.#fetcher.endBoot()
    for (let rounds = 0; !this.#isSettled(); rounds += 1) {
      this.#transport.answerAll()
      await new Promise(setImmediate)
      assert.ok(
        rounds < 20,
        `left: ${this.#missing} blocks, ${this.#unsettled} promises, ${JSON.stringify(this.#fetcher.unfinished)}`,
      )
      // Nothing pauses longer, whatever it was told; and the disk answers within a second.
      pass(PAUSE_MS_MAX)
    }
    pass(1)
    assert.ok(this.#fetcher.background.idleMs() > 0)
    this.checkTier()
    this.#fetcher.close()
  }

  /** Whatever is in the tier is right. */
  checkTier(): void {
    for (let at = 0; at < BLOCKS; at += 1) {
      if (this.#tier.has(at)) assertBlocks(this.#tier, version, at, 1)
    }
  }

  #isSettled(): boolean {
    const isDone = Object.values(this.#fetcher.unfinished).every((count) => count === 0)
    return isDone && this.#missing === 0 && this.#unsettled === 0
  }

  #settles(promise: Promise<unknown>): void {
    this.#unsettled += 1
    void promise.finally(() => {
      this.#unsettled -= 1
    })
  }

  #keep(seed: number): void {
    const chunk = version.chunks[seed % version.chunks.length]
    if (chunk !== undefined) this.#settles(this.#fetcher.background.keep(chunk))
  }

  /** The kernel reads all that is here. */
  #read(): void {
    new Uint32Array(this.#tier.memory.marks).fill(1)
    this.#fetcher.harvest()
  }

  #demand(first: number, end: number): void {
    this.#missing += end - first
    const here = new Set<number>()
    this.#fetcher.demand(first, end, {
      onBlocks: (firstBlock, blocks) => {
        assertBlocks(this.#tier, version, firstBlock, blocks)
        for (let at = firstBlock; at < firstBlock + blocks; at += 1) {
          assert.ok(at >= first && at < end && !here.has(at), `block ${at} is told once`)
          here.add(at)
        }
        this.#missing -= blocks
      },
      onClosed: () => assert.fail('nobody closed it'),
    })
  }

  #twice(at: number): void {
    const stored = version.object(this.#transport.takePending(at))
    this.#transport.deliver(stored)
    this.#transport.deliver(stored)
  }

  #lie(at: number, lie: Lie, seed: number): void {
    this.#deliverFramed(lieAbout(version.object(this.#transport.takePending(at)), lie, seed))
  }

  #unasked({ seed, lie }: Step & { kind: 'unasked' }): void {
    const name = list[seed % list.length]
    if (name === undefined) return
    const stored = version.object(name)
    this.#deliverFramed(lie === undefined ? stored : lieAbout(stored, lie, seed))
  }

  /** As over the wire: what no frame can say does not reach the fetcher. */
  #deliverFramed({ header, payload }: StoredObject): void {
    const frame = new Uint8Array(OBJECTS_HEADER_BYTES + OBJECT_HEADER_BYTES + payload.length)
    writeObjectsHeader(frame, 1)
    writeObjectHeader(frame, OBJECTS_HEADER_BYTES, header)
    frame.set(payload, OBJECTS_HEADER_BYTES + OBJECT_HEADER_BYTES)
    try {
      readObjects(frame, (header, payload) => this.#transport.deliver({ header, payload }))
    } catch (error) {
      assert.ok(error instanceof Error && 'code' in error && error.code === 'MESSAGE_INVALID')
      // The session closes such a connection.
      this.#transport.lose()
      this.#transport.open()
    }
  }
}

/** Timers and the clock of the window go together. */
let nowMs = 1000
function pass(ms: number): void {
  nowMs += ms
  mock.timers.tick(ms)
}

function stepsOf(each: fc.Arbitrary<Step>) {
  return fc.array(each, { minLength: 1, maxLength: 60, size: 'max' })
}

describe('the fetcher', () => {
  before(() => {
    mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
    mock.method(performance, 'now', () => nowMs)
  })
  // Tests after these run in the same process.
  after(() => {
    mock.timers.reset()
    mock.restoreAll()
  })

  it('hands on no wrong byte, and all that was wanted, whatever the server does', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.boolean(),
        fc.boolean(),
        fc.boolean(),
        stepsOf(step),
        async (isBoot, hasDisk, hasLeafMemory, steps) => {
          const harness = new Harness(isBoot, hasDisk, hasLeafMemory)
          for (const each of steps) await harness.run(each)
          harness.checkTier()
          harness.reconnect()
          await harness.settle()
        },
      ),
      { numRuns: 100 },
    )
  })

  it('finishes all that was begun with an honest server, and leaves nothing', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.boolean(),
        fc.boolean(),
        fc.boolean(),
        stepsOf(honestStep),
        async (isBoot, hasDisk, hasLeafMemory, steps) => {
          const harness = new Harness(isBoot, hasDisk, hasLeafMemory)
          for (const each of steps) await harness.run(each)
          await harness.settle()
        },
      ),
      { numRuns: 100 },
    )
  })
})
