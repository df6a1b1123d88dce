import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { constants, zstdCompressSync } from 'node:zlib'
import { ChunkDecoder, publicZstd } from '#shared/chunk/chunk-decoder.ts'
import {
  createZstdHandle,
  ZSTD_WINDOW_LOG_MAX,
  type ZstdHandle,
} from '#shared/chunk/zstd-handle.ts'
import { KiB } from '#shared/units.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

const { raw, zstd } = CHUNK_ENCODING
const FILL = 0x55

/** Text that packs well, noise that does not. */
function chunk(length: number, noisy = false): Buffer {
  let state = 1
  return Buffer.from(
    Array.from({ length }, (_, at) => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
      return noisy ? state >>> 16 : at % 61
    }),
  )
}

/** Memory as the RAM tier has it, and whether anything around the target was touched. */
function createTarget(offset: number, length: number) {
  const memory = Buffer.from(new SharedArrayBuffer(offset + length + 100)).fill(FILL)
  return {
    memory,
    content: () => Buffer.from(memory.subarray(offset, offset + length)),
    assertRestUntouched() {
      assert.ok(
        memory.subarray(0, offset).every((byte) => byte === FILL),
        'before',
      )
      assert.ok(
        memory.subarray(offset + length).every((byte) => byte === FILL),
        'behind',
      )
    },
  }
}

/** One raw block, and a last block of no bytes (RFC 8878 §3.1.1). */
function frameWithEmptyEnd(bytes: Uint8Array): Buffer {
  const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0])
  header.writeUInt32LE(bytes.length, 5)
  const block = Buffer.alloc(3)
  block.writeUIntLE(bytes.length << 3, 0, 3)
  return Buffer.concat([header, block, bytes, Buffer.from([0x01, 0, 0])])
}

/** One raw block, behind a header that asks for a window of a power of two (RFC 8878 §3.1.1.1.2). */
function frameWithWindow(bytes: Uint8Array, windowLog: number): Buffer {
  const block = Buffer.alloc(3)
  block.writeUIntLE((bytes.length << 3) | 1, 0, 3)
  const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (windowLog - 10) << 3])
  return Buffer.concat([header, block, bytes])
}

function zstdSuite(name: string, zstd: ZstdHandle): void {
  describe(name, () => {
    it('decodes into the middle of shared memory, and touches nothing else', () => {
      for (const length of [1, 512, 4096, 65_536, CHUNK_BYTES_MAX]) {
        for (const noisy of [false, true]) {
          const bytes = chunk(length, noisy)
          const target = createTarget(300, length)
          zstd.decode(zstdCompressSync(bytes), target.memory, 300, length)
          assert.deepEqual(target.content(), bytes)
          target.assertRestUntouched()
        }
      }
    })

    it('decodes what ends in an empty block or an empty frame, as encoders make them at times', () => {
      const bytes = chunk(4096, true)
      const emptyFrame = zstdCompressSync(new Uint8Array(0))
      for (const frame of [
        frameWithEmptyEnd(bytes),
        Buffer.concat([frameWithEmptyEnd(bytes), emptyFrame]),
        Buffer.concat([zstdCompressSync(bytes), emptyFrame]),
      ]) {
        const target = createTarget(300, bytes.length)
        zstd.decode(frame, target.memory, 300, bytes.length)
        assert.deepEqual(target.content(), bytes)
        target.assertRestUntouched()
      }
    })

    it('refuses what follows the frame', () => {
      const bytes = chunk(4096, true)
      const target = createTarget(0, bytes.length)
      for (const end of [frameWithEmptyEnd(bytes), zstdCompressSync(bytes), Buffer.from('more')]) {
        const frames = Buffer.concat([frameWithEmptyEnd(bytes), end])
        assert.throws(() => zstd.decode(frames, target.memory, 0, bytes.length))
      }
    })

    it('refuses frames that are damaged, and works after each', () => {
      const bytes = chunk(16 * KiB, true)
      // With a checksum, so that every damage is found.
      const frame = zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })
      const damaged = [
        Buffer.alloc(0),
        Buffer.from('no zstd at all'),
        frame.subarray(0, 5),
        frame.subarray(0, frame.length / 2),
        frame.subarray(0, -1),
        Buffer.concat([frame.subarray(0, 100), Buffer.from([0xff]), frame.subarray(101)]),
      ]
      for (const bad of damaged) {
        const target = createTarget(8, bytes.length)
        assert.throws(() => zstd.decode(bad, target.memory, 8, bytes.length))
        target.assertRestUntouched()
        zstd.decode(frame, target.memory, 8, bytes.length)
        assert.deepEqual(target.content(), bytes)
      }
    })

    it('refuses frames of another length than was said, and writes no more than that', () => {
      const frame = zstdCompressSync(chunk(8192))
      for (const length of [1, 4096, 8191, 8193, 20_000]) {
        const target = createTarget(64, length)
        assert.throws(() => zstd.decode(frame, target.memory, 64, length), `${length}`)
        target.assertRestUntouched()
      }
    })

    it('refuses a frame that asks for more memory than the limit, however little is in it', () => {
      const bytes = chunk(8192, true)
      const target = createTarget(0, bytes.length)
      zstd.decode(frameWithWindow(bytes, ZSTD_WINDOW_LOG_MAX), target.memory, 0, bytes.length)
      assert.deepEqual(target.content(), bytes)
      for (let log = ZSTD_WINDOW_LOG_MAX + 1; log <= 41; log += 1) {
        const frame = frameWithWindow(bytes, log)
        assert.throws(() => zstd.decode(frame, target.memory, 0, bytes.length), `${log}`)
        target.assertRestUntouched()
      }
      const behind = Buffer.concat([
        zstdCompressSync(bytes),
        frameWithWindow(bytes.subarray(0, 0), 27),
      ])
      assert.throws(() => zstd.decode(behind, target.memory, 0, bytes.length), 'an empty frame')
    })

    it('refuses a frame of one segment that says it is large', () => {
      for (const [descriptor, size] of [
        [0xa0, [0, 0, 0, 1]],
        [0xe0, [0, 0, 0, 0, 1, 0, 0, 0]],
      ] as const) {
        const block = [0x01, 0, 0]
        const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...size, ...block])
        const target = createTarget(0, 0)
        assert.throws(() => zstd.decode(frame, target.memory, 0, 0))
      }
    })

    it('writes no more of a bomb than was said', () => {
      const bomb = zstdCompressSync(Buffer.alloc(16 * 1024 * KiB))
      assert.ok(bomb.length < 4096)
      const target = createTarget(0, 8192)
      assert.throws(() => zstd.decode(bomb, target.memory, 0, 8192))
      target.assertRestUntouched()
    })

    it('decodes many frames in a row', () => {
      const target = createTarget(0, 4096)
      for (let count = 1; count < 500; count += 1) {
        const bytes = Buffer.alloc(4096, count % 251)
        zstd.decode(zstdCompressSync(bytes), target.memory, 0, 4096)
        assert.ok(target.content().equals(bytes))
      }
    })
  })
}

const internal = createZstdHandle()
zstdSuite('the zstd of the public way', publicZstd)

describe('createZstdHandle', () => {
  it('finds in this Node what it stands on', () => {
    assert.ok(internal !== undefined, "Node's zlib has changed: see zstd-handle.ts")
  })
})
if (internal !== undefined) zstdSuite("Node's own zstd handle", internal)

describe('ChunkDecoder', () => {
  const decoder = new ChunkDecoder()

  it('decodes every encoding into its place', () => {
    const bytes = chunk(4096)
    for (const [encoding, payload] of [
      [raw, bytes],
      [zstd, zstdCompressSync(bytes)],
    ] as const) {
      const target = createTarget(100, 4096)
      decoder.decode({ encoding, rawBytes: 4096 }, payload, target.memory, 100)
      assert.deepEqual(target.content(), bytes)
      target.assertRestUntouched()
    }
  })

  it('says CHUNK_CORRUPT of what it cannot decode', () => {
    const target = createTarget(0, 4096)
    const corrupt = (message: RegExp) => ({ code: 'CHUNK_CORRUPT', message })
    const decode = (encoding: typeof raw | typeof zstd, payload: Uint8Array) =>
      decoder.decode({ encoding, rawBytes: 4096 }, payload, target.memory, 0)
    assert.throws(() => decode(raw, chunk(4095)), corrupt(/of 4096 bytes: it has 4095$/))
    assert.throws(() => decode(zstd, chunk(10)), corrupt(/^Cannot decode a chunk of 4096 bytes: ./))
    assert.throws(() => decode(zstd, zstdCompressSync(chunk(4097))), corrupt(/longer|larger/))
    assert.throws(() => decode(zstd, zstdCompressSync(chunk(4095))), corrupt(/it is shorter/))
  })
})
