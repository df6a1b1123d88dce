/** Frames of a server may arrive in any pieces; those of the agent are what the `ws` package reads. */
import assert from 'node:assert/strict'
import type { Writable } from 'node:stream'
import { it } from 'node:test'
import fc from 'fast-check'
import { FrameParser, maskedFrame, OPCODE } from '#agent/session/websocket-frame.ts'
import { serverFrame } from '#test/support/agent-websocket-frames.ts'

/** What the server reads with; exported, and missing in the type declarations of ws. */
const { Receiver } = (await import('ws')) as unknown as {
  readonly Receiver: new (options: { readonly isServer: boolean }) => Writable
}

const LIMIT_BYTES = 70_000

const payload = fc
  .tuple(
    fc.oneof(fc.nat(200), fc.constantFrom(0, 125, 126, 127, 65_535, 65_536, LIMIT_BYTES)),
    fc.nat(255),
  )
  .map(([length, first]) =>
    Buffer.from(Uint8Array.from({ length }, (_, at) => (first + at) & 0xff)),
  )

const PLAIN = { noNullPrototype: true }

const frame = fc.oneof(
  fc.record({ opcode: fc.constant(OPCODE.binary), payload }, PLAIN),
  fc.record(
    {
      opcode: fc.constantFrom(OPCODE.ping, OPCODE.pong, OPCODE.close),
      payload: payload.map((bytes) => bytes.subarray(0, 125)),
    },
    PLAIN,
  ),
)

it('FrameParser finds the same frames however the stream is split', () => {
  fc.assert(
    fc.property(
      fc.array(frame, { maxLength: 12 }),
      fc.infiniteStream(fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(40_000))),
      (frames, pieces) => {
        const stream = Buffer.concat(
          frames.map(({ opcode, payload: bytes }) => serverFrame(opcode, bytes)),
        )
        const found: unknown[] = []
        const parser = new FrameParser(LIMIT_BYTES, (opcode, bytes) =>
          found.push({ opcode, payload: Buffer.from(bytes) }),
        )
        // One memory for all that is read, as the socket has.
        const memory = Buffer.alloc(40_000)
        for (let done = 0; done < stream.length; ) {
          const count = Math.min(pieces.next().value, stream.length - done)
          stream.copy(memory, 0, done, done + count)
          parser.push(memory.subarray(0, count))
          memory.fill(0xee)
          done += count
        }
        assert.deepEqual(found, frames)
      },
    ),
    { numRuns: 200, endOnFailure: true },
  )
})

it('FrameParser takes any bytes, and gives frames or MESSAGE_INVALID', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 30 })), (parts) => {
      const parser = new FrameParser(LIMIT_BYTES, (_, bytes) =>
        assert.ok(bytes.length <= LIMIT_BYTES),
      )
      try {
        for (const part of parts) parser.push(part)
      } catch (error) {
        assert.ok(error instanceof Error && 'code' in error && error.code === 'MESSAGE_INVALID')
      }
    }),
    { numRuns: 500 },
  )
})

it('maskedFrame makes what the receiver of the ws package reads', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        payload.map((bytes) => bytes.subarray(0, 65_535)),
        { minLength: 1, maxLength: 5 },
      ),
      fc.uint8Array({ minLength: 4, maxLength: 4 }),
      async (payloads, mask) => {
        const receiver = new Receiver({ isServer: true })
        const received: Buffer[] = []
        receiver.on('message', (data: Buffer) => received.push(data))
        const done = new Promise((resolve) => receiver.once('conclude', resolve))
        for (const bytes of payloads) receiver.write(maskedFrame(OPCODE.binary, bytes, mask))
        receiver.write(maskedFrame(OPCODE.close, Buffer.of(0x03, 0xe8), mask))
        await done
        assert.deepEqual(received, payloads)
      },
    ),
    { numRuns: 60 },
  )
})
