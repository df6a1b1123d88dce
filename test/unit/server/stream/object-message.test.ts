import assert from 'node:assert/strict'
import { it } from 'node:test'
import { FrameParser } from '#agent/session/websocket-frame.ts'
import {
  MESSAGE_HEADER_BYTES_MAX,
  messageBytes,
  messageHeaderBytes,
  messageOf,
  messageWithoutPayload,
  writeMessageHeader,
} from '#server/stream/object-message.ts'
import { CHUNK_ENCODING, NO_PAYLOAD, readObjects } from '#shared/wire/frame.ts'
import { MESSAGE_BYTES_MAX } from '#shared/wire/limits.ts'

/** What a peer makes of bytes; they must be whole messages. */
function parse(bytes: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = []
  const parser = new FrameParser(MESSAGE_BYTES_MAX, (_, frame) => frames.push(frame.slice()))
  parser.push(bytes)
  return frames
}

/** Around the lengths at which a websocket's header grows. */
const LENGTHS = [0, 1, 104, 105, 106, 107, 65_514, 65_515, 65_516, 131_072, 139_268]

it('a message is one frame with one object, its header ending where the payload begins', () => {
  for (const storedBytes of LENGTHS) {
    const header = {
      level: 1,
      position: 0x0102_0304,
      encoding: CHUNK_ENCODING.raw,
      rawBytes: storedBytes,
      storedBytes,
    }
    const bytes = new Uint8Array(100 + storedBytes).fill(7)
    const begin = writeMessageHeader(bytes, 100, header)
    assert.equal(100 - begin, messageHeaderBytes(storedBytes))
    assert.equal(bytes.length - begin, messageBytes(storedBytes))
    assert.ok(100 - begin <= MESSAGE_HEADER_BYTES_MAX)
    const [frame] = parse(bytes.subarray(begin))
    assert.ok(frame !== undefined)
    let objects = 0
    readObjects(frame, (read, payload) => {
      objects += 1
      assert.deepEqual(read, header)
      assert.ok(payload.length === storedBytes && payload.every((byte) => byte === 7))
    })
    assert.equal(objects, 1)
  }
})

it('messageWithoutPayload is a whole message', () => {
  const header = { level: 0, position: 9, encoding: NO_PAYLOAD.unreadable, rawBytes: 0 }
  const [frame] = parse(messageWithoutPayload(header))
  assert.equal(
    Buffer.from(frame ?? []).toString('hex'),
    `0500000100ff000000000009${'00'.repeat(8)}`,
  )
})

it('messageOf wraps frames of any length', () => {
  for (const length of [0, 125, 126, 65_535, 65_536, 131_076]) {
    const frame = new Uint8Array(length).fill(3)
    assert.deepEqual(parse(messageOf(frame)), [frame])
  }
})
