import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  ContentDecoder,
  encodeFrameHeader,
  encodeJsonFrame,
  FRAME,
} from '#server/admin/content-frames.ts'
import { sendContent } from '#server/admin/send-content.ts'

/** Runs of data (their first byte and length) and of zeros (0). */
const pieces = fc.array(
  fc.record({
    fill: fc.integer({ min: 0, max: 255 }),
    lengthBytes: fc.oneof(
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 1, max: 2_000_000 }),
      fc.constantFrom(131_072, 524_288, 524_287, 1_048_576),
    ),
  }),
  { maxLength: 8 },
)

async function* contentOf(runs: readonly { fill: number; lengthBytes: number }[]) {
  let offsetBytes = 0
  const memory = Buffer.alloc(2_000_000)
  for (const { fill, lengthBytes } of runs) {
    memory.fill(fill)
    const piece = { offsetBytes, lengthBytes }
    yield fill === 0 ? piece : { ...piece, bytes: memory.subarray(0, lengthBytes) }
    memory.fill(255) // a piece is valid only until the next is asked for
    offsetBytes += lengthBytes
  }
}

async function sent(runs: Parameters<typeof contentOf>[0]): Promise<Buffer> {
  const written: Buffer[] = [encodeJsonFrame(FRAME.head, { version: { number: 7 } })]
  await sendContent(contentOf(runs), async (bytes) => {
    await Promise.resolve() // bytes may be used again only when this returns
    written.push(Buffer.from(bytes))
  })
  return Buffer.concat(written)
}

async function* cut(bytes: Buffer, sizes: readonly number[]) {
  let at = 0
  for (const size of sizes) {
    yield Uint8Array.from(bytes.subarray(at, at + size))
    at += size
  }
  yield Uint8Array.from(bytes.subarray(at))
}

async function received(decoder: ContentDecoder): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const { bytes, lengthBytes } of decoder.parts()) {
    parts.push(bytes === undefined ? Buffer.alloc(lengthBytes) : Buffer.from(bytes))
  }
  return Buffer.concat(parts)
}

describe('content frames', () => {
  it('give back what was sent, however the bytes are cut on the way', async () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 600_000 }), { maxLength: 12 })
    await fc.assert(
      fc.asyncProperty(pieces, cuts, async (runs, sizes) => {
        const decoder = new ContentDecoder(cut(await sent(runs), sizes))
        assert.deepEqual((await decoder.head()).version, { number: 7 })
        const expected = Buffer.concat(
          runs.map(({ fill, lengthBytes }) => Buffer.alloc(lengthBytes, fill)),
        )
        assert.ok((await received(decoder)).equals(expected))
      }),
      { numRuns: 40 },
    )
  })

  it('carry no zeros', async () => {
    const bytes = await sent([{ fill: 0, lengthBytes: 1_000_000_000 }])
    assert.ok(bytes.length < 200)
  })

  it('are told from a whole by their end', async () => {
    const whole = await sent([{ fill: 1, lengthBytes: 100 }])
    for (const missing of [1, 12, 13, 50, 112]) {
      const decoder = new ContentDecoder(cut(whole.subarray(0, whole.length - missing), []))
      await decoder.head()
      await assert.rejects(received(decoder), { code: 'SERVER_NOT_RUNNING' })
    }
  })

  it('carry the error that ended them', async () => {
    const view = { code: 'CHUNK_CORRUPT', message: 'Cannot read block 7' }
    const bytes = Buffer.concat([
      encodeJsonFrame(FRAME.head, {}),
      encodeFrameHeader(FRAME.zeros, 7),
      encodeJsonFrame(FRAME.error, view),
    ])
    const decoder = new ContentDecoder(cut(bytes, []))
    await decoder.head()
    await assert.rejects(received(decoder), view)
    const early = new ContentDecoder(cut(encodeJsonFrame(FRAME.error, view), []))
    await assert.rejects(early.head(), view)
  })
})
