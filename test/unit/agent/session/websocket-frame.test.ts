import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FrameParser, maskedFrame, OPCODE } from '#agent/session/websocket-frame.ts'
import { serverFrame } from '#test/support/agent-websocket-frames.ts'

function parse(bytes: Uint8Array, limitBytes = 1000): { opcode: number; payload: string }[] {
  const frames: { opcode: number; payload: string }[] = []
  const parser = new FrameParser(limitBytes, (opcode, payload) => {
    frames.push({ opcode, payload: Buffer.from(payload).toString() })
  })
  parser.push(bytes)
  return frames
}

const BODY = Buffer.from('body')

describe('FrameParser', () => {
  it('hands on a frame that lies whole in what was read from there, without a copy', () => {
    const bytes = serverFrame(OPCODE.binary, BODY)
    let payload: Uint8Array | undefined
    new FrameParser(1000, (_, found) => {
      payload = found
    }).push(bytes)
    assert.equal(payload?.buffer, bytes.buffer)
    assert.equal(payload?.byteOffset, bytes.byteOffset + 2)
  })

  it('delivers an empty frame the moment its header is there', () => {
    assert.deepEqual(parse(Buffer.of(0x8a, 0)), [{ opcode: OPCODE.pong, payload: '' }])
  })

  it('takes a payload as long as its limit, and no longer', () => {
    assert.equal(parse(serverFrame(OPCODE.binary, Buffer.alloc(1000))).length, 1)
    assert.throws(() => parse(serverFrame(OPCODE.binary, Buffer.alloc(1001))), {
      code: 'MESSAGE_INVALID',
      message: /it has 1001 bytes, at most 1000 are allowed$/,
    })
  })

  it('refuses by the header alone what is too long, before a byte of it came', () => {
    const header = Buffer.of(0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
    assert.throws(() => parse(header), { code: 'MESSAGE_INVALID' })
  })

  it('refuses what a server of ours does not send', () => {
    const cases: [Uint8Array, RegExp][] = [
      [serverFrame(OPCODE.binary, BODY, { fin: false }), /it is a fragment$/],
      [serverFrame(OPCODE.continuation, BODY), /it is a fragment$/],
      [serverFrame(OPCODE.ping, BODY, { fin: false }), /it is a fragment$/],
      [serverFrame(OPCODE.ping, Buffer.alloc(126)), /at most 125 are allowed$/],
      [maskedFrame(OPCODE.binary, BODY, Buffer.alloc(4)), /it is masked$/],
      ...[1, 2, 4].map((reserved): [Uint8Array, RegExp] => [
        serverFrame(OPCODE.binary, BODY, { reserved }),
        /extension nobody asked for$/,
      ]),
    ]
    for (const [bytes, expected] of cases) {
      assert.throws(() => parse(bytes), { code: 'MESSAGE_INVALID', message: expected })
    }
  })
})

describe('maskedFrame', () => {
  it('masks the payload, and leaves it as it was', () => {
    const payload = Buffer.of(1, 2, 3, 4, 5)
    const frame = maskedFrame(OPCODE.binary, payload, Buffer.of(0xf0, 0x0f, 0xff, 0))
    assert.deepEqual([...frame], [0x82, 0x85, 0xf0, 0x0f, 0xff, 0, 0xf1, 0x0d, 0xfc, 4, 0xf5])
    assert.deepEqual([...payload], [1, 2, 3, 4, 5])
  })

  it('writes each length in the fewest bytes', () => {
    const header = (length: number) => {
      const frame = maskedFrame(OPCODE.binary, Buffer.alloc(length), Buffer.alloc(4))
      return [...frame.subarray(0, frame.length - length - 4)]
    }
    assert.deepEqual(header(125), [0x82, 0x80 | 125])
    assert.deepEqual(header(126), [0x82, 0xfe, 0, 126])
    assert.deepEqual(header(65_535), [0x82, 0xfe, 0xff, 0xff])
    assert.deepEqual(header(65_536), [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0])
  })
})
