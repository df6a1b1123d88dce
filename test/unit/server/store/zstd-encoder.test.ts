import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import {
  createZstdEncoder,
  ENCODED_BYTES_MAX,
  PUBLIC_ENCODER,
} from '#server/store/writing/zstd-encoder.ts'
import { KiB } from '#shared/units.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

/** Where Node's encoder begins a new piece of output, unless it is told otherwise. */
const PIECE_BYTES = 32 * KiB

for (const [name, encoder] of [
  ['createZstdEncoder', createZstdEncoder()],
  ['PUBLIC_ENCODER', PUBLIC_ENCODER],
] as const) {
  describe(name, () => {
    it('makes one frame of each chunk, however long it comes out', () => {
      const chunkBytes = 64 * KiB
      const digits = hexDigits(chunkBytes)
      const target = Buffer.alloc(ENCODED_BYTES_MAX)
      let atTheEdge = 0
      for (let length = chunkBytes - 1250; length <= chunkBytes - 1050; length += 1) {
        const chunk = Buffer.concat([digits.subarray(0, length), Buffer.alloc(chunkBytes - length)])
        const storedBytes = encoder.encode(chunk, target, 0)
        assert.equal(frameLength(target), storedBytes)
        if (storedBytes === PIECE_BYTES) atTheEdge += 1
      }
      assert.ok(atTheEdge > 0, 'one of them ends just there')
    })

    it('encodes chunks of every length, one after the other, to what decodes to them', () => {
      const noise = new Uint8Array(CHUNK_BYTES_MAX)
      for (let at = 0; at < noise.length; at += 65_536) {
        crypto.getRandomValues(noise.subarray(at, at + 65_536))
      }
      const text = hexDigits(CHUNK_BYTES_MAX)
      const target = new Uint8Array(ENCODED_BYTES_MAX + 100)
      for (let length = 1; length <= CHUNK_BYTES_MAX; length = Math.ceil(length * 1.7)) {
        for (const source of [noise, text, new Uint8Array(CHUNK_BYTES_MAX)]) {
          const chunk = source.subarray(0, length)
          const frame = target.subarray(100, 100 + encoder.encode(chunk, target, 100))
          assert.equal(zstdDecompressSync(frame).compare(chunk), 0)
        }
      }
    })
  })
}

it('createZstdEncoder has the faster one on this Node', () => {
  assert.notEqual(createZstdEncoder(), PUBLIC_ENCODER)
})

/** They pack to half of their length, nearly to the byte. */
function hexDigits(lengthBytes: number): Buffer {
  const digits = Buffer.alloc(lengthBytes)
  for (let at = 0; at < digits.length; at += 64) {
    digits.write(createHash('sha256').update(String(at)).digest('hex'), at)
  }
  return digits
}

/** Length of the first frame: a header of one segment, and its blocks (RFC 8878 §3.1.1). */
function frameLength(frame: Buffer): number {
  const descriptor = frame[4] ?? 0
  assert.ok((descriptor & 0x20) !== 0, 'one segment')
  const contentSizeBytes = [1, 2, 4, 8][descriptor >> 6] ?? 0
  for (let at = 5 + contentSizeBytes; ; ) {
    const block = frame.readUIntLE(at, 3)
    const isRunLength = ((block >> 1) & 3) === 1
    at += 3 + (isRunLength ? 1 : block >> 3)
    if ((block & 1) !== 0) return at
  }
}
