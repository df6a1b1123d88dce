import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { LEVEL_MAX } from '#shared/manifest/tree-shape.ts'
import { firstPushCount } from '#shared/wire/first-push.ts'
import {
  CHUNK_ENCODING,
  decodeBootList,
  decodePush,
  decodeRequest,
  decodeTrace,
  encodeBootList,
  encodePush,
  encodeRequest,
  encodeTrace,
  NO_PAYLOAD,
  type ObjectHeader,
  readObjects,
} from '#shared/wire/frame.ts'
import { BOOT_LIST_ENTRIES_MAX, PUSH_RANGES_MAX, REQUEST_OBJECTS_MAX } from '#shared/wire/limits.ts'
import { objectsFrame } from './objects-frame.ts'

const invalid = (message: RegExp) => ({ code: 'MESSAGE_INVALID', message })

const DECODERS = { decodeRequest, decodeBootList, decodePush, decodeTrace }

/** Header of a frame with this count, and as many bytes behind it. */
function frame(type: number, count: number, bodyBytes: number): Uint8Array {
  const bytes = new Uint8Array(4 + bodyBytes)
  bytes.set([type, 0, count >> 8, count & 0xff])
  return bytes
}

function header(fields: Partial<ObjectHeader> = {}): ObjectHeader {
  const { zstd } = CHUNK_ENCODING
  return { level: 0, position: 1, encoding: zstd, rawBytes: 100, storedBytes: 10, ...fields }
}

function readAll(bytes: Uint8Array): { header: ObjectHeader; payload: string }[] {
  const objects: { header: ObjectHeader; payload: string }[] = []
  readObjects(bytes, (header, payload) => {
    objects.push({ header, payload: Buffer.from(payload).toString() })
  })
  return objects
}

describe('frames of entries', () => {
  it('have exactly the length their count says', () => {
    for (const decode of Object.values(DECODERS)) {
      for (const bytes of [0, 1, 3]) {
        assert.throws(() => decode(new Uint8Array(bytes)), invalid(/without a header/))
      }
      for (const bodyBytes of [0, 7, 9, 16]) {
        const expected = invalid(new RegExp(`of 1 has 12 bytes, this has ${4 + bodyBytes}$`))
        assert.throws(() => decode(frame(4, 1, bodyBytes)), expected)
      }
    }
  })

  it('are bounded in their count, and the bound is allowed', () => {
    const bounds = [
      [decodeRequest, REQUEST_OBJECTS_MAX],
      [decodeBootList, BOOT_LIST_ENTRIES_MAX],
      [decodeTrace, BOOT_LIST_ENTRIES_MAX],
    ] as const
    for (const [decode, max] of bounds) {
      assert.equal(entriesOf(decode(frame(4, max, 8 * max))).length, max)
      const tooMany = frame(4, max + 1, 8 * (max + 1))
      assert.throws(() => decode(tooMany), invalid(new RegExp(`of ${max + 1}, at most ${max}`)))
    }
    const ranges = Array.from({ length: PUSH_RANGES_MAX }, () => ({ begin: 0, end: 1 }))
    assert.deepEqual(decodePush(encodePush(ranges)), ranges)
    const tooMany = frame(7, PUSH_RANGES_MAX + 1, 8 * (PUSH_RANGES_MAX + 1))
    assert.throws(() => decodePush(tooMany), invalid(/at most 1024 are allowed/))
  })

  it('are read out of a larger buffer', () => {
    const objects = [{ level: 1, position: 7 }]
    const buffer = Buffer.alloc(100, 0xff)
    buffer.set(encodeRequest({ priority: 1, objects }), 33)
    assert.deepEqual(decodeRequest(buffer.subarray(33, 45)), { priority: 1, objects })
  })

  it('decodeRequest refuses priorities and levels there are not', () => {
    const bytes = encodeRequest({ priority: 2, objects: [{ level: LEVEL_MAX, position: 0 }] })
    bytes[1] = 3
    assert.throws(() => decodeRequest(bytes), invalid(/priority 3/))
    bytes[1] = 0
    bytes[4] = LEVEL_MAX + 1
    assert.throws(() => decodeRequest(bytes), invalid(/an object of level 5/))
  })

  it('decodePush refuses ranges that are empty, backwards or beyond any list', () => {
    const ranges = [
      { begin: 3, end: 3 },
      { begin: 4, end: 3 },
      { begin: 0, end: BOOT_LIST_ENTRIES_MAX + 1 },
    ]
    for (const range of ranges) {
      assert.throws(() => decodePush(encodePush([range])), invalid(/a push of entries/))
    }
  })

  it('decodeTrace refuses a trace that goes back in time', () => {
    const entries = [
      { position: 1, atMs: 5 },
      { position: 2, atMs: 4 },
    ]
    assert.throws(() => decodeTrace(encodeTrace(entries)), invalid(/back in time/))
  })

  it('encodeBootList breaks an invariant rather than cut a length short', () => {
    const entry = { level: 0, position: 0, storedBytes: 2 ** 24 }
    assert.throws(() => encodeBootList([entry]), /Invariant broken: an object of 16777216 bytes/)
  })
})

describe('readObjects', () => {
  it('gives each object with its payload', () => {
    const zstd = header({ storedBytes: 4 })
    const raw = header({ encoding: CHUNK_ENCODING.raw, rawBytes: 3, storedBytes: 3 })
    const frame = objectsFrame([
      { header: zstd, payload: Buffer.from('abcd') },
      { header: raw, payload: Buffer.from('efg') },
    ])
    assert.deepEqual(readAll(frame), [
      { header: zstd, payload: 'abcd' },
      { header: raw, payload: 'efg' },
    ])
  })

  it('takes the largest object, and refuses a larger one', () => {
    const bytes = LEAF_BYTES_MAX
    const largest = { encoding: CHUNK_ENCODING.raw, rawBytes: bytes, storedBytes: bytes }
    const payload = new Uint8Array(bytes)
    assert.equal(readAll(objectsFrame([{ header: header(largest), payload }])).length, 1)
    const larger = header({ rawBytes: bytes + 1 })
    const frame = objectsFrame([{ header: larger, payload: new Uint8Array(10) }])
    assert.throws(() => readAll(frame), invalid(/an object of 139269 bytes/))
  })

  it('refuses what is cut off, and what follows the last object', () => {
    const frame = objectsFrame([{ header: header(), payload: new Uint8Array(10) }])
    for (let length = 0; length < frame.length; length += 1) {
      assert.throws(() => readAll(frame.subarray(0, length)), invalid(/header|cut off/))
    }
    assert.throws(() => readAll(Buffer.concat([frame, Buffer.of(0)])), invalid(/something follows/))
  })

  it('refuses encodings and lengths that cannot be', () => {
    const { raw, zstd } = CHUNK_ENCODING
    const { absent, unreadable } = NO_PAYLOAD
    const refused: [Partial<ObjectHeader>, RegExp][] = [
      [{ encoding: 3 as 2 }, /unknown encoding 3/],
      [{ encoding: 254 as 2 }, /unknown encoding 254/],
      [{ level: LEVEL_MAX + 1 }, /an object of level 5/],
      [{ encoding: raw, rawBytes: 11 }, /an object of 11 bytes stored in 10/],
      [{ encoding: zstd, rawBytes: 9 }, /an object of 9 bytes stored in 10/],
      [{ encoding: absent }, /a payload of an object that is not there/],
      [{ encoding: unreadable }, /a payload of an object that is not there/],
    ]
    for (const [fields, message] of refused) {
      const frame = objectsFrame([{ header: header(fields), payload: new Uint8Array(10) }])
      assert.throws(() => readAll(frame), invalid(message))
    }
  })
})

describe('firstPushCount', () => {
  const entries = [10, 0, 20, 5].map((storedBytes) => ({ level: 0, position: 0, storedBytes }))

  it('is as many entries as fit, one that is too long ending it', () => {
    const counts = [0, 9, 10, 29, 30, 34, 35, 100].map((bytes) => firstPushCount(entries, bytes))
    assert.deepEqual(counts, [0, 0, 2, 2, 3, 3, 4, 4])
    assert.equal(firstPushCount([], 100), 0)
  })
})

function entriesOf(decoded: ReturnType<(typeof DECODERS)[keyof typeof DECODERS]>) {
  return 'objects' in decoded ? decoded.objects : decoded
}
