import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  CHUNK_ENCODING,
  CHUNK_HEADER_BYTES,
  CHUNK_REQUEST_BYTES,
  decodeChunkHeader,
  decodeChunkRequest,
  encodeChunkHeader,
} from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

const { zero, raw, zstd } = CHUNK_ENCODING

/** A chunk frame byte by byte, whatever is in it. */
function frame(encoding: number, rawBytes: number, payloadBytes: number): Uint8Array {
  const bytes = new Uint8Array(CHUNK_HEADER_BYTES + payloadBytes)
  bytes.set([3, encoding, 0, 0, 0, 0, 0, 9])
  new DataView(bytes.buffer).setUint32(8, rawBytes)
  return bytes
}

const invalid = (message: RegExp) => ({ code: 'MESSAGE_INVALID', message })

describe('chunk frames', () => {
  it('decodeChunkRequest takes exactly its length', () => {
    for (const bytes of [0, 1, CHUNK_REQUEST_BYTES - 1, CHUNK_REQUEST_BYTES + 1]) {
      const expected = invalid(new RegExp(`has 12 bytes, this has ${bytes}$`))
      assert.throws(() => decodeChunkRequest(new Uint8Array(bytes)), expected)
    }
  })

  it('decodeChunkRequest and decodeChunkHeader read a part of a larger buffer', () => {
    const buffer = Buffer.alloc(100, 0xff)
    buffer.set([2, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4], 33)
    const request = decodeChunkRequest(buffer.subarray(33, 45))
    assert.deepEqual(request, { priority: 1, requestId: 3, chunkIndex: 4 })
    buffer.set(frame(zero, 4096, 0), 33)
    const header = decodeChunkHeader(buffer.subarray(33, 45))
    assert.deepEqual(header, { requestId: 9, encoding: zero, rawBytes: 4096 })
  })

  it('decodeChunkHeader refuses what cannot be a chunk', () => {
    for (const bytes of [0, 1, CHUNK_HEADER_BYTES - 1]) {
      assert.throws(() => decodeChunkHeader(new Uint8Array(bytes)), invalid(/has no header/))
    }
    for (const encoding of [3, 4, 255]) {
      assert.throws(
        () => decodeChunkHeader(frame(encoding, 1, 1)),
        invalid(/unknown chunk encoding/),
      )
    }
    const tooLong = frame(zstd, CHUNK_BYTES_MAX + 1, 10)
    assert.throws(() => decodeChunkHeader(tooLong), invalid(/at most 131072 are allowed/))
    assert.throws(() => decodeChunkHeader(frame(zstd, 0xffff_ffff, 10)), invalid(/of 4294967295 b/))
    assert.throws(
      () => decodeChunkHeader(frame(zero, 4096, 1)),
      invalid(/zero chunk with a payload/),
    )
    for (const payloadBytes of [0, 99, 101]) {
      const expected = invalid(new RegExp(`raw chunk of ${payloadBytes} bytes announced as 100$`))
      assert.throws(() => decodeChunkHeader(frame(raw, 100, payloadBytes)), expected)
    }
  })

  it('decodeChunkHeader takes the largest chunk of each encoding', () => {
    for (const [encoding, payloadBytes] of [
      [zero, 0],
      [raw, CHUNK_BYTES_MAX],
      [zstd, 20],
    ] as const) {
      const header = decodeChunkHeader(frame(encoding, CHUNK_BYTES_MAX, payloadBytes))
      assert.deepEqual(header, { requestId: 9, encoding, rawBytes: CHUNK_BYTES_MAX })
    }
  })

  it('encodeChunkHeader breaks an invariant rather than announce too large a chunk', () => {
    const header = { requestId: 1, encoding: raw, rawBytes: CHUNK_BYTES_MAX + 1 }
    assert.throws(() => encodeChunkHeader(header), /Invariant broken: chunk of 131073 bytes/)
  })
})
