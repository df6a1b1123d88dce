/** The stream of requests may be split anywhere: what is read and answered stays the same. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { RequestReader } from '#agent/node-nbd/request-reader.ts'
import { encodeRequest, NBD, type NbdRequest } from '#test/support/nbd-client.ts'
import { TransmissionBench } from '#test/support/nbd-transmission-bench.ts'

const LIMIT_BYTES = 8192

const payload = fc
  .tuple(fc.oneof(fc.nat(3 * LIMIT_BYTES), fc.constantFrom(0, 512, 4096, 8192, 8193)), fc.nat(255))
  .map(([length, fill]) => Buffer.alloc(length, fill))

const request: fc.Arbitrary<NbdRequest> = fc.oneof(
  fc.record({
    type: fc.constant(NBD.write),
    offset: fc.nat(2 ** 40),
    flags: fc.nat(3),
    payload,
  }),
  fc.record({
    type: fc.constantFrom(NBD.read, NBD.flush, NBD.trim, 99),
    offset: fc.nat(2 ** 40),
    length: fc.nat(2 ** 31),
    flags: fc.nat(0xffff),
  }),
)

it('RequestReader finds the same requests however the stream is split', () => {
  fc.assert(
    fc.property(
      fc.array(request, { maxLength: 20 }),
      fc.infiniteStream(fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constant(200_000))),
      (requests, pieces) => {
        const reader = new RequestReader(Buffer.alloc(LIMIT_BYTES))
        const found: unknown[] = []
        const stream = Buffer.concat(
          requests.map((each, index) => encodeRequest(each, BigInt(index))),
        )
        for (let done = 0; done < stream.length; ) {
          const count = Math.min(pieces.next().value, reader.targetRoom, stream.length - done)
          stream.copy(reader.target, reader.targetAt, done, done + count)
          reader.advance(count)
          done += count
          while (reader.next()) found.push(summary(reader))
        }
        assert.deepEqual(found, requests.map(expected))
      },
    ),
    { numRuns: 200, endOnFailure: true },
  )
})

it('Transmission says the same however the stream is split', () => {
  const within: fc.Arbitrary<NbdRequest> = fc.oneof(
    fc.record({
      type: fc.constantFrom(NBD.read, NBD.trim, NBD.writeZeroes, NBD.blockStatus),
      offset: fc.nat(300).map((sector) => sector * 512),
      length: fc.nat(100).map((sectors) => sectors * 512),
      flags: fc.constantFrom(0, 0, 0, 1, 4),
    }),
    fc.record({
      type: fc.constant(NBD.write),
      offset: fc.nat(300).map((sector) => sector * 512),
      payload: fc
        .tuple(fc.nat(160), fc.nat(255))
        .map(([sectors, fill]) => Buffer.alloc(sectors * 512, fill)),
    }),
  )
  fc.assert(
    fc.property(
      fc.array(within, { minLength: 1, maxLength: 20 }),
      fc.boolean(),
      fc.integer({ min: 1, max: 5000 }),
      (requests, structured, pieceBytes) => {
        const stream = Buffer.concat(
          requests.map((each, index) => encodeRequest(each, BigInt(index))),
        )
        const [whole, split] = [
          new TransmissionBench({ structured }),
          new TransmissionBench({ structured }),
        ]
        whole.receive(stream)
        split.receive(stream, pieceBytes)
        assert.ok(Buffer.concat(whole.said).equals(Buffer.concat(split.said)))
        assert.ok(whole.memory.equals(split.memory))
      },
    ),
    { numRuns: 100, endOnFailure: true },
  )
})

function summary(reader: RequestReader): unknown {
  const { type, flags, cookieHigh, cookieLow, offset, length, payloadDropped } = reader
  const bytes = type === NBD.write && !payloadDropped ? Buffer.from(reader.payload) : undefined
  return { type, flags, cookieHigh, cookieLow, offset, length, bytes }
}

function expected(it: NbdRequest, index: number): unknown {
  const length = it.length ?? it.payload?.length ?? 0
  const bytes = it.payload !== undefined && length <= LIMIT_BYTES ? it.payload : undefined
  const { type, flags, offset } = it
  return { type, flags, cookieHigh: 0, cookieLow: index, offset, length, bytes }
}
