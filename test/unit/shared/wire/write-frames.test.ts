/** Frames of what a client writes: their bytes, their way there and back, and what is none. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { READ_BACK_BLOCKS_MAX, WRITE_BLOCKS_MAX } from '#shared/wire/limits.ts'
import {
  decodeBlocks,
  decodeReadBack,
  decodeWrite,
  decodeWriteMap,
  decodeWritten,
  encodeBlocks,
  encodeReadBack,
  encodeWrite,
  encodeWriteMap,
  encodeWritten,
  WRITE_KIND,
  type WriteRecord,
} from '#shared/wire/write-frames.ts'

const invalid = { code: 'MESSAGE_INVALID' }
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const firstBlock = fc.integer({ min: 0, max: 2 ** 30 })

const record: fc.Arbitrary<WriteRecord> = fc.oneof(
  fc
    .tuple(firstBlock, fc.integer({ min: 1, max: 8 }), fc.nat(255))
    .map(([first, blocks, fill]) => ({
      kind: WRITE_KIND.data,
      firstBlock: first,
      blocks,
      bytes: new Uint8Array(blocks * BLOCK_BYTES).fill(fill),
    })),
  fc.tuple(firstBlock, fc.integer({ min: 1, max: 1e6 })).map(([first, blocks]) => ({
    kind: WRITE_KIND.zero,
    firstBlock: first,
    blocks,
    bytes: new Uint8Array(0),
  })),
)

describe('write frames', () => {
  it('have these bytes', () => {
    const data = { kind: WRITE_KIND.data, firstBlock: 7, blocks: 1, bytes: Buffer.alloc(4096, 'w') }
    const zero = { kind: WRITE_KIND.zero, firstBlock: 9, blocks: 500, bytes: new Uint8Array(0) }
    const write = Buffer.from(encodeWrite(3, [data, zero]))
    assert.equal(write.toString('hex', 0, 20), '0900000200000003010000000000000700000001')
    assert.equal(write.toString('hex', 20 + 4096), '0200000000000009000001f4')
    const hex = (frame: Uint8Array) => Buffer.from(frame).toString('hex')
    assert.equal(
      hex(encodeWritten({ sequence: 3, roomBytes: 8_589_934_592 })),
      '0a000000000000030000000200000000',
    )
    assert.equal(
      hex(encodeReadBack({ id: 5, firstBlock: 7, blocks: 2 })),
      '0b000000000000050000000700000002',
    )
    assert.equal(hex(encodeBlocks({ id: 5, bytes: Buffer.from('ab') })), '0c000000000000056162')
    assert.equal(
      hex(encodeWriteMap([{ kind: WRITE_KIND.zero, firstBlock: 1, blocks: 2 }])),
      '0d00000100000000020000000000000100000002',
    )
  })

  it('come back as they were sent', () => {
    fc.assert(
      fc.property(u32, fc.array(record, { maxLength: 5 }), (sequence, records) => {
        const decoded = decodeWrite(encodeWrite(sequence, records))
        assert.equal(decoded.sequence, sequence)
        assert.equal(decoded.records.length, records.length)
        for (const [at, { bytes, ...rest }] of decoded.records.entries()) {
          const { bytes: sent, ...expected } = records[at] as WriteRecord
          assert.deepEqual(rest, expected)
          assert.ok(Buffer.from(bytes).equals(sent))
        }
      }),
    )
    fc.assert(
      fc.property(u32, fc.nat({ max: Number.MAX_SAFE_INTEGER }), (sequence, roomBytes) => {
        const written = { sequence, roomBytes }
        assert.deepEqual(decodeWritten(encodeWritten(written)), written)
      }),
    )
    const readBack = { id: 0xffff_ffff, firstBlock: 2 ** 30, blocks: READ_BACK_BLOCKS_MAX }
    assert.deepEqual(decodeReadBack(encodeReadBack(readBack)), readBack)
    const answer = decodeBlocks(encodeBlocks({ id: 9, bytes: Buffer.alloc(4096, 'b') }))
    assert.deepEqual([answer.id, Buffer.from(answer.bytes)], [9, Buffer.alloc(4096, 'b')])
    const runs = [
      { kind: WRITE_KIND.data, firstBlock: 0, blocks: 1 },
      { kind: WRITE_KIND.zero, firstBlock: 9, blocks: 2 ** 20 },
    ]
    assert.deepEqual(decodeWriteMap(encodeWriteMap(runs)), runs)
  })

  it('are refused when they are cut off, too long, or name what cannot be', () => {
    const whole = [
      encodeWrite(1, [
        { kind: WRITE_KIND.data, firstBlock: 7, blocks: 2, bytes: Buffer.alloc(8192) },
        { kind: WRITE_KIND.zero, firstBlock: 9, blocks: 5, bytes: new Uint8Array(0) },
      ]),
      encodeWritten({ sequence: 1, roomBytes: 1 }),
      encodeReadBack({ id: 1, firstBlock: 1, blocks: 1 }),
      encodeWriteMap([{ kind: WRITE_KIND.data, firstBlock: 0, blocks: 1 }]),
    ]
    const decoders = [decodeWrite, decodeWritten, decodeReadBack, decodeWriteMap]
    for (const [at, frame] of whole.entries()) {
      const decode = decoders[at] as (frame: Uint8Array) => unknown
      decode(frame)
      for (let length = 1; length < frame.length; length += length < 40 ? 1 : 501) {
        assert.throws(() => decode(frame.subarray(0, length)), invalid, `${at} to ${length}`)
      }
      assert.throws(() => decode(Buffer.concat([frame, Buffer.alloc(1)])), invalid, `${at} longer`)
    }
    const changed = (frame: Uint8Array, at: number, value: number) => {
      const copy = Buffer.from(frame)
      copy.writeUInt32BE(value, at)
      return copy
    }
    const [write, , readBack, map] = whole as [Uint8Array, Uint8Array, Uint8Array, Uint8Array]
    for (const [frame, decode] of [
      [changed(write, 8, 0x0300_0000), decodeWrite], // kind
      [changed(write, 16, 0), decodeWrite], // no blocks
      [changed(write, 12, 0xffff_fff0), decodeWrite], // beyond any vDisk
      [changed(write, 16, WRITE_BLOCKS_MAX + 1), decodeWrite],
      [changed(readBack, 12, READ_BACK_BLOCKS_MAX + 1), decodeReadBack],
      [changed(map, 8, 0), decodeWriteMap],
    ] as const) {
      assert.throws(() => decode(frame), invalid)
    }
  })

  it('of any bytes throw nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        for (const decode of [
          decodeWrite,
          decodeWritten,
          decodeReadBack,
          decodeBlocks,
          decodeWriteMap,
        ]) {
          try {
            decode(bytes)
          } catch (error) {
            assert.equal((error as { code?: string }).code, 'MESSAGE_INVALID')
          }
        }
      }),
      { numRuns: 500 },
    )
  })
})
