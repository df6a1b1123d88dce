import assert from 'node:assert/strict'
import { it } from 'node:test'
import { getHeapStatistics } from 'node:v8'
import type { HotDevice } from '#agent/node-nbd/block-device.ts'
import { NOTHING_NEGOTIATED } from '#agent/node-nbd/export-facts.ts'
import { ReplyBuffer } from '#agent/node-nbd/reply-buffer.ts'
import { ReplyEncoder } from '#agent/node-nbd/reply-encoder.ts'
import { RequestReader } from '#agent/node-nbd/request-reader.ts'
import { Transmission } from '#agent/node-nbd/transmission.ts'
import { encodeRequest, NBD } from '#test/support/nbd-client.ts'

const SIZE_BYTES = 1024 * 1024
const BATCH = 16

/** The least a device can do. */
function createDevice(): HotDevice {
  const memory = Buffer.alloc(SIZE_BYTES, 1)
  return {
    read: (offset, length, sink) => {
      sink.appendPart(memory, offset, length)
      return true
    },
    write: (offset, bytes) => {
      memory.set(bytes, offset)
      return true
    },
    flush: () => true,
    trim: () => true,
    writeZeroes: () => true,
    extents: (_, lengthBytes) => [{ lengthBytes, zero: false, hole: false }],
    close: () => {},
  }
}

it('Transmission makes no garbage from reads and writes of 4 KiB', () => {
  const replies = new ReplyBuffer({ write: () => {}, writeAll: () => {} })
  const reader = new RequestReader(Buffer.alloc(65536))
  const transmission = new Transmission({
    facts: {
      sizeBytes: SIZE_BYTES,
      readOnly: false,
      minimumBlockBytes: 512,
      maximumBlockBytes: 65536,
      fastZeroes: false,
    },
    negotiated: NOTHING_NEGOTIATED,
    hot: createDevice(),
    reader,
    encoder: new ReplyEncoder(replies, false),
    cold: undefined,
  })
  const batch = Buffer.concat(
    Array.from({ length: BATCH }, (_, index) => {
      const offset = index * 8192
      const write = { type: NBD.write, offset, payload: Buffer.alloc(4096, index) }
      const request = index % 4 === 0 ? write : { type: NBD.read, offset, length: 4096 }
      return encodeRequest(request, BigInt(index))
    }),
  )
  const serve = (count: number) => {
    for (let served = 0; served < count; served += BATCH) {
      reader.feed(batch)
      transmission.serveRequests()
      replies.flush()
    }
  }
  serve(100_000) // until it is compiled
  const grown = [1, 2, 3, 4, 5].map(() => heapBytesOf(serve, 16_000) / 16_000)
  // What V8 did beside, such as compiling, is in some of them; a collection would show as a loss.
  const least = Math.min(...grown.map(Math.abs))
  assert.ok(least < 1, `${least} bytes per request`)
})

function heapBytesOf(serve: (count: number) => void, count: number): number {
  const before = getHeapStatistics().used_heap_size
  serve(count)
  return getHeapStatistics().used_heap_size - before
}
