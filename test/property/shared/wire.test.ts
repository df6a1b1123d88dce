/** What is encoded is decoded to the same; what is not, to the same or to MESSAGE_INVALID. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { BOOT_PHASES } from '#shared/boot/boot-phase.ts'
import { BootwireError } from '#shared/errors.ts'
import { decodeAgentMessage, decodeServerMessage, encodeMessage } from '#shared/wire/codec.ts'
import {
  CHUNK_ENCODING,
  CHUNK_HEADER_BYTES,
  decodeChunkHeader,
  decodeChunkRequest,
  encodeChunkHeader,
  encodeChunkRequest,
} from '#shared/wire/frame.ts'
import { ASSIGNMENTS_MAX, CHUNK_BYTES_MAX, MACS_MAX, NAME_LENGTH_MAX } from '#shared/wire/limits.ts'
import type { AgentMessage, ServerMessage } from '#shared/wire/messages.ts'

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
    { kind: fc.constant('open'), vdisk: name, versionId: id },
    { requiredKeys: ['kind', 'vdisk'] },
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
    demandReads: count,
    demandReadBytes: count,
    chunksReceived: count,
    wireBytesReceived: count,
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

const offer = fc.record({ vdisk: name, title: text(120), sizeBytes: count })

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
      chunkBytes: fc.integer({ min: 12, max: 17 }).map((power) => 2 ** power),
      root: fc.record({
        partition: fc.nat(128),
        fsType: fc.stringMatching(/^[a-z0-9]{2,16}$/),
        options: fc.stringMatching(/^[A-Za-z0-9@=,._/-]{0,50}$/),
      }),
      kernel: fc.record({
        id,
        release: text(128),
        kernelPath: text(1024),
        initrdPaths: fc.array(text(1024), { maxLength: 8 }),
      }),
    },
    { requiredKeys: ['kind', 'vdisk', 'versionId', 'sizeBytes', 'chunkBytes', 'root'] },
  ),
  fc.record({ kind: fc.constant('error'), code: text(40), message: text(1024) }),
)

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

  it('a chunk request is decoded to what was encoded', () => {
    const request = fc.record({ requestId: u32, chunkIndex: u32, priority: fc.nat(255) })
    fc.assert(
      fc.property(request, (request) => {
        assert.deepEqual(decodeChunkRequest(encodeChunkRequest(request)), { ...request })
      }),
    )
  })

  it('a chunk header is decoded to what was encoded', () => {
    const header = fc.record({
      requestId: u32,
      encoding: fc.constantFrom(...Object.values(CHUNK_ENCODING)),
      rawBytes: fc.nat(CHUNK_BYTES_MAX),
    })
    fc.assert(
      fc.property(header, fc.nat(1000), (header, zstdBytes) => {
        const { encoding, rawBytes } = header
        const payloadBytes = [0, rawBytes, zstdBytes][encoding] ?? 0
        const frame = new Uint8Array(CHUNK_HEADER_BYTES + payloadBytes)
        frame.set(encodeChunkHeader(header))
        assert.deepEqual(decodeChunkHeader(frame), { ...header })
      }),
    )
  })

  it('random chunk frames are decoded within limits, or are MESSAGE_INVALID', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 24 }), (frame) => {
        try {
          const { rawBytes, encoding } = decodeChunkHeader(frame)
          assert.ok(rawBytes <= CHUNK_BYTES_MAX && encoding <= CHUNK_ENCODING.zstd)
        } catch (error) {
          assert.ok(isInvalid(error), String(error))
        }
      }),
      { numRuns: 1000 },
    )
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

function isInvalid(error: unknown): boolean {
  return error instanceof BootwireError && error.code === 'MESSAGE_INVALID'
}
