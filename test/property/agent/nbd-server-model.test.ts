/** A server behind a real socket is a flat array of bytes, whatever is asked of it in whatever order. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { connectNbd, NBD, type NbdClient } from '#test/support/nbd-client.ts'
import { type NbdFixture, startNbdServer } from '#test/support/nbd-server-fixture.ts'

const SIZE_BYTES = 1024 * 1024
const BLOCKS = SIZE_BYTES / 4096
const SECTORS = SIZE_BYTES / 512

type Step =
  | {
      readonly kind: 'read' | 'write' | 'zero' | 'trim'
      readonly at: number
      readonly count: number
    }
  | { readonly kind: 'flush' }
  /** Makes a block cold, or hot again. */
  | { readonly kind: 'move'; readonly block: number; readonly cold: boolean }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constantFrom('read', 'write', 'zero', 'trim'),
      at: fc.nat(SECTORS - 1),
      count: fc.oneof(fc.integer({ min: 1, max: 32 }), fc.integer({ min: 1, max: 1000 })),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'flush' } as const) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('move'),
      block: fc.nat(BLOCKS - 1),
      cold: fc.boolean(),
    }),
  },
)

/** Makes a step; checks what a read returns. */
async function send(clients: NbdClient[], model: Buffer, fixture: NbdFixture, it: Step, n: number) {
  const client = clients[n % clients.length]
  assert.ok(client)
  if (it.kind === 'move') {
    fixture.absent[it.block] = it.cold ? 1 : 0
    return
  }
  if (it.kind === 'flush') return client.request({ type: NBD.flush })
  const offset = it.at * 512
  const length = Math.min(it.count, SECTORS - it.at) * 512
  const end = offset + length
  if (it.kind === 'read') {
    const expected = Buffer.from(model.subarray(offset, end))
    const reply = await client.read(offset, length)
    assert.ok(reply.data.equals(expected), `read of ${length} at ${offset}`)
    return reply
  }
  if (it.kind === 'write') {
    const payload = Buffer.alloc(length, 1 + (n % 255))
    payload.copy(model, offset)
    return client.request({ type: NBD.write, offset, payload })
  }
  model.fill(0, offset, end)
  const type = it.kind === 'zero' ? NBD.writeZeroes : NBD.trim
  return client.request({ type, offset, length })
}

for (const transmission of ['workers', 'event-loop'] as const) {
  it(`NbdServer is a flat array of bytes: ${transmission}`, async () => {
    await using fixture = await startNbdServer({ sizeBytes: SIZE_BYTES, server: { transmission } })
    const clients = [await connectNbd(fixture.socketPath), await connectNbd(fixture.socketPath)]
    const model = Buffer.alloc(SIZE_BYTES)
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 80 }), async (steps) => {
        for (const [n, each] of steps.entries()) {
          const reply = await send(clients, model, fixture, each, n)
          if (reply !== undefined) assert.equal(reply.errno, 0)
        }
        // All at once: reads may pass each other.
        const reads = steps.filter(({ kind }) => kind === 'read')
        await Promise.all(reads.map((each, n) => send(clients, model, fixture, each, n)))
        assert.ok(fixture.memory.equals(model))
      }),
      { numRuns: 20, endOnFailure: true },
    )
    for (const client of clients) client.disconnect()
  })
}
