import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  type DhcpMessage,
  decodeDhcpMessage,
  encodeDhcpMessage,
  macBytes,
  macText,
} from '#shared/dhcp/dhcp-message.ts'

const address = fc.ipV4()
/** Latin-1 without the zero that ends a text. */
const text = (maxLength: number) =>
  fc
    .array(fc.integer({ min: 1, max: 255 }), { maxLength })
    .map((codes) => String.fromCharCode(...codes))

const messages: fc.Arbitrary<DhcpMessage> = fc.record(
  {
    op: fc.constantFrom('request' as const, 'reply' as const),
    hardwareType: fc.nat(255),
    transactionId: fc.nat(0xffff_ffff),
    seconds: fc.nat(0xffff),
    flags: fc.nat(0xffff),
    clientAddress: address,
    yourAddress: address,
    nextServer: address,
    relayAddress: address,
    hardwareAddress: fc.uint8Array({ maxLength: 16 }).map((bytes) => Buffer.from(bytes)),
    serverName: text(63),
    bootFile: text(127),
    options: fc
      .array(
        fc.tuple(
          fc.integer({ min: 1, max: 254 }),
          fc.uint8Array({ maxLength: 255 }).map((bytes) => Buffer.from(bytes)),
        ),
        { maxLength: 8 },
      )
      .map((pairs) => new Map(pairs)),
  },
  { noNullPrototype: true },
)

describe('DHCP messages', () => {
  it('what is encoded is decoded to the same, and is long enough for old relays', () => {
    fc.assert(
      fc.property(messages, (message) => {
        const packet = encodeDhcpMessage(message)
        assert.ok(packet.length >= 300)
        assert.deepEqual(decodeDhcpMessage(packet), message)
      }),
    )
  })

  it('an option in several parts is put together (RFC 3396)', () => {
    const packet = encodeDhcpMessage({
      op: 'request',
      transactionId: 1,
      hardwareAddress: macBytes('52:54:00:00:00:01'),
      options: new Map(),
    })
    packet.set([60, 3, 80, 88, 69, 0, 0, 53, 1, 1, 60, 2, 67, 108, 255], 240)
    const message = decodeDhcpMessage(packet)
    assert.equal(Buffer.from(message?.options.get(60) ?? []).toString(), 'PXECl')
    assert.equal(
      macText(message?.hardwareAddress ?? ([] as unknown as Uint8Array)),
      '52:54:00:00:00:01',
    )
  })

  it('no packet is too strange', () => {
    fc.assert(
      fc.property(messages, fc.nat(600), fc.nat(700), fc.nat(255), (message, length, at, byte) => {
        const packet = encodeDhcpMessage(message).subarray(0, length)
        if (at < packet.length) packet[at] = byte
        decodeDhcpMessage(packet)
      }),
    )
    assert.equal(decodeDhcpMessage(Buffer.alloc(240)), undefined)
    assert.equal(decodeDhcpMessage(Buffer.alloc(0)), undefined)
  })
})
