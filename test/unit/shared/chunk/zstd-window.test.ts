import assert from 'node:assert/strict'
import { it } from 'node:test'
import { constants, zstdCompressSync } from 'node:zlib'
import { zstdWindowBytes } from '#shared/chunk/zstd-window.ts'
import { KiB, MiB } from '#shared/units.ts'

it('zstdWindowBytes() is what frames of the encoder ask for', () => {
  const largest = zstdCompressSync(Buffer.alloc(16 * MiB), {
    params: { [constants.ZSTD_c_windowLog]: 21 },
  })
  assert.equal(zstdWindowBytes(largest, 0), 2 * MiB)
  // One segment: the window is the content.
  for (const length of [1, 255, 256, 300, 65_791, 65_792, 100_000, 200 * KiB]) {
    const frame = zstdCompressSync(Buffer.alloc(length, 1))
    assert.equal(zstdWindowBytes(frame, 0), length)
    assert.equal(zstdWindowBytes(Buffer.concat([Buffer.from('before'), frame]), 6), length)
  }
})

it('zstdWindowBytes() is nothing where there is no frame, or not all of its header', () => {
  const frame = zstdCompressSync(Buffer.alloc(100_000, 1))
  for (let length = 0; length < 9; length += 1) {
    assert.equal(zstdWindowBytes(frame.subarray(0, length), 0), 0)
  }
  assert.equal(zstdWindowBytes(Buffer.from('no frame at all'), 0), 0)
  assert.equal(zstdWindowBytes(frame, frame.length), 0)
})

it('zstdWindowBytes() reads the largest there are', () => {
  const windowed = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 1, 0, 0])
  assert.equal(zstdWindowBytes(windowed, 0), 2 ** 41 + 7 * 2 ** 38)
  const single = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80])
  assert.equal(zstdWindowBytes(single, 0), 2 ** 63)
})
