/** Frames made to hurt: whatever comes, it is MESSAGE_INVALID, soon and without much memory. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BootwireError } from '#shared/errors.ts'
import { KiB, MiB } from '#shared/units.ts'
import { decodeAgentMessage, decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
import { CONTROL_MESSAGE_BYTES_MAX } from '#shared/wire/limits.ts'
import { AGENT_MESSAGES } from './wire-vectors.ts'

/** Far more than any takes here, far less than what would be felt. */
const TIME_MS_MAX = 250
const HEAP_BYTES_MAX: number = 32 * MiB

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')
const repeat = (text: string, count: number) => Buffer.concat(Array(count).fill(hex(text)))

/** As much of it as fits into one message. */
const full = (text: string) =>
  repeat(text, Math.floor(CONTROL_MESSAGE_BYTES_MAX / hex(text).length))

/** An ext of this type around data, again and again. */
function nestedExt(type: string, depth: number): Buffer {
  let body = hex('c0')
  for (let level = 0; level < depth; level += 1) {
    const head = Buffer.alloc(4)
    head.writeUInt8(0xc8)
    head.writeUInt16BE(body.length, 1)
    head.write(type, 3, 'hex')
    body = Buffer.concat([head, body])
  }
  return body
}

const HOSTILE: Readonly<Record<string, Buffer>> = {
  'nothing at all': Buffer.alloc(0),
  'a lone nil': hex('c0'),
  'the byte no msgpack uses': hex('c1'),
  'a number': hex('cf ffffffffffffffff'),
  'a text': hex('a568656c6c6f'),
  'an empty map': hex('80'),
  'an empty array': hex('90'),
  'two values': hex('8080'),
  'arrays in arrays': full('91'),
  'maps in maps': full('81a161'),
  'maps as keys of maps': full('81'),
  'arrays as keys of maps': full('8191'),
  'an array of 4 billion': hex('dd ffffffff'),
  'an array of 16 million, with some': Buffer.concat([hex('dd 00ffffff'), repeat('c0', 60_000)]),
  'arrays of 16 million in each other': full('dd00ffffff'),
  'arrays of 65,535 in each other': full('dcffff'),
  'a map of 4 billion': hex('df ffffffff'),
  'maps of 65,535 in each other': full('deffff a161'),
  'a text of 4 GiB': hex('db ffffffff'),
  'bytes of 4 GiB': hex('c6 ffffffff'),
  'an ext of 4 GiB': hex('c9 ffffffff 70'),
  'a text that ends early': hex('d9ff61'),
  'a text that is no UTF-8': hex('81 a46b696e64 a4ffc0f880'),
  'a pointer to itself': hex('d6 70 00000001'),
  'a reference': hex('91 d6 69 00000001 91 d6 70 00000001'),
  'references in each other': full('d66900000001 91'),
  'an Error': hex('d4 65 00 93 a14d a14d c0'),
  'a Set': hex('d4 73 00 9101'),
  'a RegExp': hex('d4 78 00 92 a161 a167'),
  'a RegExp that does not compile': hex('d4 78 00 92 a128 a167'),
  'a RegExp that would take for ever': hex('d4 78 00 92 a8 28612b292b2b2421 a0'),
  'a typed array of odd length': hex('c7 04 74 05 000000'),
  'a typed array of no type': hex('c7 04 74 ff 000000'),
  'a date': hex('d6 ff 00000001'),
  'a date that is none': hex('c7 0c ff ffffffff ffffffffffffffff'),
  'a bigint of 60 KiB': Buffer.concat([hex('c8 f000 42'), Buffer.alloc(60 * KiB, 0xff)]),
  'the definition of a record': hex('d4 72 40 92 a46b696e64 a161 a161 01'),
  'a record that is not defined': hex('d4 72 41'),
  'records in each other': full('d4724091a161'),
  'a definition with 32,767 fields': Buffer.concat([
    hex('d5 7240 00 dc7fff'),
    repeat('a0', 32_767),
  ]),
  'an ext of an unknown type': hex('d4 05 00'),
  'Sets in Sets': nestedExt('73', 10_000),
  'Errors in Errors': nestedExt('65', 10_000),
  'unknown ext in each other': nestedExt('05', 10_000),
  'a kind of 60 KiB': Buffer.concat([hex('81 a46b696e64 da f000'), Buffer.alloc(60 * KiB, 'x')]),
  'a kind that clears the screen': hex('81 a46b696e64 a7 1b5b324a1b5b48'),
  'one key, often': Buffer.concat([hex('de 4e20'), repeat('a161 c0', 20_000)]),
  'many keys': Buffer.concat([
    hex('de 2710'),
    ...Array.from({ length: 10_000 }, (_, at) => Buffer.from(`\xa4${1000 + at}\xc0`, 'latin1')),
  ]),
}

describe('hostile control frames', () => {
  for (const [what, body] of Object.entries(HOSTILE)) {
    it(`are MESSAGE_INVALID: ${what}`, () => {
      const frame = Buffer.concat([hex('01'), body])
      assert.ok(body.length <= CONTROL_MESSAGE_BYTES_MAX)
      for (const decode of [decodeAgentMessage, decodeServerMessage]) {
        const [startedMs, heapBytes] = [performance.now(), process.memoryUsage().heapUsed]
        assert.throws(() => decode(frame), isInvalid)
        assert.ok(performance.now() - startedMs < TIME_MS_MAX, 'time')
        assert.ok(process.memoryUsage().heapUsed - heapBytes < HEAP_BYTES_MAX, 'memory')
      }
    })
  }

  it('are MESSAGE_INVALID: no byte, not even a type', () => {
    assert.throws(() => decodeAgentMessage(new Uint8Array(0)), isInvalid)
  })

  it('are refused for their size before they are read', () => {
    const frame = new Uint8Array(1 + CONTROL_MESSAGE_BYTES_MAX + 1)
    assert.throws(() => decodeAgentMessage(frame), {
      code: 'MESSAGE_INVALID',
      message: /it has 65538 bytes, at most 65536 are allowed/,
    })
  })

  it('change no prototype, and no fields come from one', () => {
    // {kind: 'open', vdisk: 'd', firstPushBytes: 0, __proto__: {versionId: 'c0ffee00', evil: 1}}
    const open = 'a46b696e64 a46f70656e a5766469736b a164 ae6669727374507573684279746573 00'
    const inner = 'a9 76657273696f6e4964 a8 6330666665653030 a4 6576696c 01'
    const body = hex(`84 ${open} a95f5f70726f746f5f5f 82 ${inner}`)
    const message = decodeAgentMessage(Buffer.concat([hex('01'), body]))
    assert.deepEqual(message, { kind: 'open', vdisk: 'd', firstPushBytes: 0 })
    assert.equal(Object.getPrototypeOf(message), Object.prototype)
    assert.equal('evil' in {}, false)
    // {__proto__: {kind: 'open', vdisk: 'd'}}, and the same by way of "constructor"
    const fields = `83 ${open}`
    for (const key of ['a95f5f70726f746f5f5f', 'ab636f6e7374727563746f72']) {
      const only = Buffer.concat([hex('01'), hex(`81 ${key} ${fields}`)])
      assert.throws(() => decodeAgentMessage(only), isInvalid)
    }
  })

  it('leave nothing behind that changes how the next message is read', () => {
    const status = AGENT_MESSAGES['status-all']
    assert.ok(status !== undefined)
    const numbers = { ...status, rssBytes: 64, ramTierBytes: 65, demandReads: 127 }
    for (const body of Object.values(HOSTILE)) {
      assert.throws(() => decodeAgentMessage(Buffer.concat([hex('01'), body])), isInvalid)
      assert.deepEqual(decodeAgentMessage(encodeMessage(numbers)), numbers)
    }
  })

  it('end up without the value of an object that is no plain one', () => {
    // {kind: 'hello', …, facts: new Set()}: a Set is no facts of a machine.
    const { kind, ...rest } = AGENT_MESSAGES['hello-least'] as { readonly kind: 'hello' }
    const frame = Buffer.from(encodeMessage({ kind, ...rest, facts: { macs: [] } } as never))
    const at = frame.indexOf('facts') + 'facts'.length
    const end = frame.indexOf('macs') + 'macs'.length + 1
    const evil = Buffer.concat([frame.subarray(0, at), hex('d4 73 00 90'), frame.subarray(end)])
    assert.throws(() => decodeAgentMessage(evil), isInvalid)
  })
})

function isInvalid(error: unknown): boolean {
  assert.ok(error instanceof BootwireError, String(error))
  assert.equal(error.code, 'MESSAGE_INVALID')
  // It is shown, logged and sent to the peer.
  assert.ok(error.message.length < 500, `a message of ${error.message.length}`)
  assert.match(error.message, /^\P{C}*$/u)
  return true
}
