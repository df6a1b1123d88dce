import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { it } from 'node:test'
import { encodeBatch } from '#server/store/chunk-encoder-worker.ts'
import { KiB } from '#shared/units.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'

const CHUNK_BYTES = 64 * KiB
/** Where Node's encoder begins a new piece of output, unless it is told otherwise. */
const PIECE_BYTES = 32 * KiB

it('encodeBatch makes one frame of each chunk, however long it comes out', () => {
  // Hexadecimal digits pack to half of their length, nearly to the byte.
  const digits = Buffer.alloc(CHUNK_BYTES)
  for (let at = 0; at < digits.length; at += 64) {
    digits.write(createHash('sha256').update(String(at)).digest('hex'), at)
  }
  let atTheEdge = 0
  for (let length = CHUNK_BYTES - 1250; length <= CHUNK_BYTES - 1050; length += 1) {
    const chunk = Buffer.concat([digits.subarray(0, length), Buffer.alloc(CHUNK_BYTES - length)])
    const { encodings, storedLengths, data } = encodeBatch(chunk, CHUNK_BYTES)
    assert.equal(encodings[0], CHUNK_ENCODING.zstd)
    assert.equal(frameLength(Buffer.from(data)), storedLengths[0])
    if (storedLengths[0] === PIECE_BYTES) atTheEdge += 1
  }
  assert.ok(atTheEdge > 0, 'one of them ends just there')
})

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
