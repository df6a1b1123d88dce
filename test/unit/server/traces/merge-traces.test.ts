import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { BootTrace, TraceOrigin } from '#server/traces/boot-trace.ts'
import { mergeTraces } from '#server/traces/merge-traces.ts'
import { BOOT_LIST_ENTRIES_MAX } from '#shared/wire/limits.ts'

let nextId = 0

/** A boot that read these chunks, one every `stepMs`. */
function boot(
  positions: readonly number[],
  {
    model = 'PC',
    origin = 'recorded',
    stepMs = 10,
    isConfirmed = true,
  }: {
    readonly model?: string
    readonly origin?: TraceOrigin
    readonly stepMs?: number
    readonly isConfirmed?: boolean
  } = {},
): BootTrace {
  nextId += 1
  const entries = positions.map((position, at) => ({ position, atMs: at * stepMs }))
  const clientId = `client-${nextId}`
  return {
    origin,
    bootId: `${nextId}`,
    model,
    clientId,
    isConfirmed,
    recordedAtMs: nextId,
    entries,
  }
}

const ascending = (a: number, b: number) => a - b

const positionsOf = async (traces: readonly BootTrace[]) =>
  (await mergeTraces(traces))?.chunks.map(({ position }) => position)

describe('mergeTraces', () => {
  it('knows nothing without traces', async () => {
    assert.equal(await mergeTraces([]), undefined)
  })

  it('is one boot as it was', async () => {
    assert.deepEqual(await mergeTraces([boot([7, 3, 9])]), {
      source: 'recorded',
      chunks: [
        { position: 7, atMs: 0 },
        { position: 3, atMs: 10 },
        { position: 9, atMs: 20 },
      ],
    })
  })

  it('has what at least half of the boots of a model read', async () => {
    const traces = [boot([1, 2]), boot([1, 2, 3]), boot([1, 4]), boot([1, 5])]
    assert.deepEqual((await positionsOf(traces))?.toSorted(ascending), [1, 2])
    assert.deepEqual((await positionsOf(traces.slice(0, 3)))?.toSorted(ascending), [1, 2])
    assert.deepEqual((await positionsOf(traces.slice(0, 2)))?.toSorted(ascending), [1, 2, 3])
  })

  it('asks each model for itself: one machine among many has its own chunks in', async () => {
    const many = Array.from({ length: 8 }, () => boot([1, 2]))
    const traces = [...many, boot([1, 100], { model: 'Laptop' })]
    assert.deepEqual((await positionsOf(traces))?.toSorted(ascending), [1, 2, 100])
  })

  it('orders by the median place, not by the clock of a slow machine', async () => {
    const traces = [
      boot([1, 2, 3], { stepMs: 1000 }),
      boot([1, 2, 3], { model: 'Laptop' }),
      boot([3, 1, 2], { model: 'Tablet' }),
    ]
    assert.deepEqual(await positionsOf(traces), [1, 2, 3])
  })

  it('takes boots that were carried over only for models that have not booted this version', async () => {
    const old = boot([1, 50], { origin: 'carried' })
    const laptop = boot([1, 60], { origin: 'carried', model: 'Laptop' })
    assert.equal((await mergeTraces([old, laptop]))?.source, 'carried')
    const merged = await mergeTraces([old, laptop, boot([1, 2])])
    assert.equal(merged?.source, 'recorded')
    assert.deepEqual(merged?.chunks.map(({ position }) => position).toSorted(ascending), [1, 2, 60])
  })

  it('takes a guess only where there is nothing else', async () => {
    const guess = boot([1, 2, 3], { origin: 'guessed', model: '' })
    assert.equal((await mergeTraces([guess]))?.source, 'guessed')
    assert.deepEqual(await positionsOf([guess, boot([9], { origin: 'carried' })]), [9])
  })

  it('heeds strangers only where no confirmed client has booted', async () => {
    const strangers = Array.from({ length: 8 }, () => boot([1, 666], { isConfirmed: false }))
    assert.deepEqual(await positionsOf(strangers), [1, 666])
    const other = boot([9], { model: 'invented', isConfirmed: false })
    assert.deepEqual(await positionsOf([...strangers, other, boot([1, 2])]), [1, 2])
    const carried = boot([1, 3], { origin: 'carried' })
    assert.deepEqual(await positionsOf([...strangers, carried]), [1, 3])
  })

  it('is bounded, and keeps what is read first', async () => {
    const positions = Array.from({ length: BOOT_LIST_ENTRIES_MAX }, (_, at) => at)
    const traces = [
      boot(positions),
      boot(
        positions.map((it) => it + 100_000),
        { model: 'Laptop' },
      ),
    ]
    const merged = (await positionsOf(traces)) ?? []
    assert.equal(merged.length, BOOT_LIST_ENTRIES_MAX)
    assert.deepEqual(merged.slice(0, 2), [0, 100_000])
  })

  it('names each chunk once, only chunks that were read, whatever the boots', async () => {
    const positions = fc.uniqueArray(fc.nat(30), { minLength: 1 })
    const model = fc.constantFrom('a', 'b')
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(positions, model), { minLength: 1 }), async (boots) => {
        const traces = boots.map(([positions, model]) => boot(positions, { model }))
        const merged = (await positionsOf(traces)) ?? []
        assert.equal(new Set(merged).size, merged.length)
        const read = new Set(boots.flatMap(([positions]) => positions))
        assert.ok(merged.every((position) => read.has(position)))
        // What all boots of a model read is in.
        const [, first = ''] = boots[0] ?? []
        const own = boots.filter(([, model]) => model === first).map(([positions]) => positions)
        const common = own[0]?.filter((it) => own.every((positions) => positions.includes(it)))
        assert.ok(common?.every((position) => merged.includes(position)))
      }),
    )
  })
})
