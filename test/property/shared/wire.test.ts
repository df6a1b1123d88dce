/** What is encoded is decoded to the same; what is not, to the same or to MESSAGE_INVALID. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { BOOT_PHASES } from '#shared/boot/boot-phase.ts'
import { BootwireError } from '#shared/errors.ts'
import { LEAF_BYTES_MAX } from '#shared/manifest/leaf-node.ts'
import { LEVEL_MAX } from '#shared/manifest/tree-shape.ts'
import { decodeAgentMessage, decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
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
  readObjects,
} from '#shared/wire/frame.ts'
import {
  ASSIGNMENTS_MAX,
  BOOT_LIST_ENTRIES_MAX,
  FIRST_PUSH_BYTES_MAX,
  MACS_MAX,
  NAME_LENGTH_MAX,
  VOLUME_SEGMENTS_MAX,
} from '#shared/wire/limits.ts'
import type {
  AgentMessage,
  Hydration,
  ServerMessage,
  WriteCacheSettings,
} from '#shared/wire/messages.ts'
import { objectsFrame } from '#test/unit/shared/wire/objects-frame.ts'

const hexDigits = (min: number, max: number) =>
  fc.stringMatching(new RegExp(`^[0-9a-f]{${min},${max}}$`))
const text = (maxLength: number) => fc.string({ unit: 'grapheme', maxLength: maxLength / 8 })
const name = fc.stringMatching(new RegExp(`^[a-z0-9.-]{1,${NAME_LENGTH_MAX}}$`))
const id = hexDigits(8, 64)
const count = fc.maxSafeNat()
const seconds = fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }).map(Math.abs)
const mac = hexDigits(12, 12).map((digits) => (digits.match(/../g) ?? []).join(':'))
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 })

const facts = fc.record(
  {
    macs: fc.array(mac, { maxLength: MACS_MAX }),
    uuid: text(128),
    systemSerial: text(128),
    boardSerial: text(128),
    manufacturer: text(128),
    product: text(128),
    memoryBytes: count,
  },
  { requiredKeys: ['macs'] },
)

const agentMessage: fc.Arbitrary<AgentMessage> = fc.oneof(
  fc.record({
    kind: fc.constant('hello'),
    protocol: count,
    agentVersion: text(64),
    bootId: id,
    facts,
    kernelRelease: text(128),
    uptimeSeconds: seconds,
  }),
  fc.record(
    {
      kind: fc.constant('open'),
      vdisk: name,
      versionId: id,
      firstPushBytes: fc.nat(FIRST_PUSH_BYTES_MAX),
    },
    { requiredKeys: ['kind', 'vdisk', 'firstPushBytes'] },
  ),
  fc.record({
    kind: fc.constant('phase'),
    phase: fc.constantFrom(...BOOT_PHASES),
    uptimeSeconds: seconds,
  }),
  fc.record({
    kind: fc.constant('status'),
    rssBytes: count,
    ramTierBytes: count,
    writeCacheBytes: count,
    writeCacheLimitBytes: count,
    writeCachePlaces: fc.subarray(['ram', 'disk', 'server'] as const),
    writesWaiting: count,
    demandReads: count,
    demandReadBytes: count,
    chunksReceived: count,
    wireBytesReceived: count,
    objectsCorrupt: count,
    prefetch: fc.record({
      hits: count,
      late: count,
      misses: count,
      pushedBytes: count,
      unusedBytes: count,
    }),
    diskCache: fc.record({
      state: fc.constantFrom('none', 'ready', 'failed'),
      usedBytes: count,
      capacityBytes: count,
      writeBudgetLeftBytes: count,
      problem: text(200),
    }),
    hydration: fc.record({
      mode: fc.constantFrom('off', 'run', 'pause', 'complete'),
      localBytes: count,
      versionBytes: count,
    }),
  }),
  fc.record({
    kind: fc.constant('notice'),
    level: fc.constantFrom('info', 'warning', 'error'),
    message: text(1024),
  }),
  fc.record({
    kind: fc.constant('bye'),
    reason: fc.constantFrom('poweroff', 'reboot', 'halt', 'kexec'),
  }),
)

const hydration: fc.Arbitrary<Hydration> = fc.record({
  mode: fc.constantFrom('off', 'run', 'pause'),
  rateBytesPerSecond: count,
})

const writeCache: fc.Arbitrary<WriteCacheSettings> = fc.record({
  place: fc.constantFrom('auto', 'ram', 'disk', 'server'),
  isKept: fc.boolean(),
  limitBytes: count,
})

const base64 = (bytesMax: number) =>
  fc.uint8Array({ maxLength: bytesMax }).map((bytes) => Buffer.from(bytes).toString('base64'))

const offer = fc.record({ vdisk: name, title: text(120), sizeBytes: count })

const partition = fc.nat(128)
const LOCATION_KEYS = ['partition', 'fsType', 'options'] as const
const location = {
  partition,
  fsType: fc.stringMatching(/^[a-z0-9]{2,16}$/),
  options: fc.stringMatching(/^[A-Za-z0-9@=,._/-]{0,50}$/),
  volume: fc.record({
    name: fc.stringMatching(/^[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,30}$/),
    uuid: fc.stringMatching(/^LVM-[A-Za-z0-9]{64}$/),
    segments: fc.array(
      fc.record({ partition, startSector: count, sectors: fc.integer({ min: 1 }) }),
      {
        minLength: 1,
        maxLength: VOLUME_SEGMENTS_MAX,
      },
    ),
  }),
}

const serverMessage: fc.Arbitrary<ServerMessage> = fc.oneof(
  fc.record(
    {
      kind: fc.constant('identity'),
      state: fc.constantFrom('approved', 'pending', 'refused'),
      clientId: id,
      hostname: fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/),
      machineId: hexDigits(32, 32),
      serverName: text(1024),
      offers: fc.array(offer, { maxLength: ASSIGNMENTS_MAX }),
      defaultVdisk: name,
      menuSeconds: fc.nat(3600),
      serverTimeMs: count,
    },
    {
      requiredKeys: [
        'kind',
        'state',
        'clientId',
        'hostname',
        'machineId',
        'serverName',
        'offers',
        'menuSeconds',
        'serverTimeMs',
      ],
    },
  ),
  fc.record(
    {
      kind: fc.constant('opened'),
      vdisk: name,
      versionId: id,
      sizeBytes: count,
      storedBytes: count,
      manifest: fc.record({
        record: base64(64),
        signature: base64(128),
        signerKey: base64(256),
      }),
      hydration,
      writeCache,
      root: fc.record(
        { ...location, usr: fc.record(location, { requiredKeys: [...LOCATION_KEYS] }) },
        { requiredKeys: [...LOCATION_KEYS] },
      ),
      kernel: fc.record({
        id,
        release: text(128),
        kernelPath: text(1024),
        initrdPaths: fc.array(text(1024), { maxLength: 8 }),
      }),
    },
    {
      requiredKeys: [
        'kind',
        'vdisk',
        'versionId',
        'sizeBytes',
        'storedBytes',
        'manifest',
        'hydration',
        'writeCache',
        'root',
      ],
    },
  ),
  fc.record({ kind: fc.constant('hydrate'), hydration }),
  fc.record({ kind: fc.constant('error'), code: text(40), message: text(1024) }),
)

const names = { level: fc.nat(LEVEL_MAX), position: u32 }
const objectName = fc.record(names)

const range = fc
  .tuple(fc.nat(BOOT_LIST_ENTRIES_MAX), fc.nat(BOOT_LIST_ENTRIES_MAX))
  .filter(([a, b]) => a !== b)
  .map(([a, b]) => ({ begin: Math.min(a, b), end: Math.max(a, b) }))

const trace = fc
  .array(fc.record({ position: u32, atMs: u32 }))
  .map((entries) => entries.sort((a, b) => a.atMs - b.atMs))

const framedObject = fc
  .record({
    ...names,
    encoding: fc.constantFrom(...Object.values(CHUNK_ENCODING), ...Object.values(NO_PAYLOAD)),
    payload: fc.uint8Array({ maxLength: 50 }),
    more: fc.nat(1000),
  })
  .map(({ level, position, encoding, payload, more }) => {
    const isThere = encoding === CHUNK_ENCODING.raw || encoding === CHUNK_ENCODING.zstd
    const sent = isThere ? payload : new Uint8Array(0)
    const rawBytes = sent.length + (encoding === CHUNK_ENCODING.raw ? 0 : more)
    const header = { level, position, encoding, rawBytes, storedBytes: sent.length }
    return { header, payload: sent }
  })

/** fast-check's objects have no prototype. */
const plain = <Value>(value: Value): Value => structuredClone(value)

const check = <Value>(arbitrary: fc.Arbitrary<Value>, test: (value: Value) => void) => {
  fc.assert(fc.property(arbitrary, test), { numRuns: 300 })
}

describe('wire', () => {
  it('a message is decoded to what was encoded', () => {
    const plain = (message: object) => JSON.parse(JSON.stringify(message))
    fc.assert(
      fc.property(agentMessage, (message) => {
        assert.deepEqual(decodeAgentMessage(encodeMessage(message)), plain(message))
      }),
    )
    fc.assert(
      fc.property(serverMessage, (message) => {
        assert.deepEqual(decodeServerMessage(encodeMessage(message)), plain(message))
      }),
    )
  })

  it('a message with changed bytes is decoded to a message, or is MESSAGE_INVALID', () => {
    const change = fc.record({ at: fc.nat(), byte: fc.nat(255) })
    const changes = fc.array(change, { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(agentMessage, changes, fc.nat(20), (message, changes, cutBytes) => {
        const frame = encodeMessage(message)
        for (const { at, byte } of changes) frame[1 + (at % (frame.length - 1))] = byte
        expectMessageOrInvalid(frame)
        expectMessageOrInvalid(frame.subarray(0, Math.max(1, frame.length - cutBytes)))
      }),
      { numRuns: 1000 },
    )
  })

  it('random bytes are MESSAGE_INVALID, or by a rare chance a message', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expectMessageOrInvalid(Uint8Array.of(1, ...bytes))
      }),
      { numRuns: 1000 },
    )
  })

  it('frames of entries are decoded to what was encoded', () => {
    const objects = fc.array(objectName, { maxLength: 256 })
    const request = fc.record({ priority: fc.constantFrom(0, 1, 2), objects })
    check(request, (it) => assert.deepEqual(decodeRequest(encodeRequest(it)), plain(it)))
    const entry = fc.record({ ...names, storedBytes: fc.nat(2 ** 24 - 1) })
    check(fc.array(entry), (it) => assert.deepEqual(decodeBootList(encodeBootList(it)), plain(it)))
    check(fc.array(range), (it) => assert.deepEqual(decodePush(encodePush(it)), plain(it)))
    check(trace, (it) => assert.deepEqual(decodeTrace(encodeTrace(it)), plain(it)))
  })

  it('objects are read as they were framed', () => {
    check(fc.array(framedObject, { maxLength: 8 }), (objects) => {
      const read: unknown[] = []
      readObjects(objectsFrame(objects), (header, payload) => {
        read.push({ header, payload: Uint8Array.from(payload) })
      })
      assert.deepEqual(read, plain(objects))
    })
  })

  it('random frames are decoded within limits, or are MESSAGE_INVALID', () => {
    // A small count in most of them, so that they get further.
    const body = fc.uint8Array({ maxLength: 80 })
    const frame = fc.tuple(fc.nat(255), fc.constantFrom(0, 0, 0, 1, 255), fc.nat(9), body)
    check(frame, ([type, high, low, body]) => {
      const bytes = Uint8Array.of(type, 0, high, low, ...body)
      for (const decode of [decodeRequest, decodeBootList, decodePush, decodeTrace]) {
        expectValueOrInvalid(() => decode(bytes))
      }
      expectValueOrInvalid(() => {
        readObjects(bytes, (header, payload) => {
          assert.ok(header.rawBytes <= LEAF_BYTES_MAX || header.storedBytes === 0)
          assert.equal(payload.length, header.storedBytes)
        })
      })
    })
  })

  it('frames of objects with changed bytes are read, or are MESSAGE_INVALID', () => {
    const change = fc.record({ at: fc.nat(), byte: fc.nat(255) })
    const objects = fc.array(framedObject, { minLength: 1, maxLength: 4 })
    check(fc.tuple(objects, fc.array(change, { maxLength: 4 })), ([objects, changes]) => {
      const frame = objectsFrame(objects)
      for (const { at, byte } of changes) frame[at % frame.length] = byte
      expectValueOrInvalid(() => readObjects(frame, () => undefined))
    })
  })
})

function expectMessageOrInvalid(frame: Uint8Array): void {
  let message: AgentMessage
  try {
    message = decodeAgentMessage(frame)
  } catch (error) {
    assert.ok(isInvalid(error), String(error))
    return
  }
  // What came through is one that could have been sent.
  assert.deepEqual(decodeAgentMessage(encodeMessage(message)), message)
}

function expectValueOrInvalid(decode: () => unknown): void {
  try {
    decode()
  } catch (error) {
    assert.ok(isInvalid(error), String(error))
  }
}

function isInvalid(error: unknown): boolean {
  return error instanceof BootwireError && error.code === 'MESSAGE_INVALID'
}
