import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { decodeLeaseAnswer, encodeLeaseRequest } from '#agent/network/dhcp-packet.ts'
import { dhcpAnswer } from './dhcp-server.ts'

const MAC = '52:54:00:12:34:56'
const REQUEST = {
  transactionId: 0x0102_0304,
  mac: MAC,
  address: '10.0.2.15',
  hostname: 'lab-7',
}

describe('DHCP packets', () => {
  it('a request names the address and the client as RFC 2131 has it', () => {
    const packet = encodeLeaseRequest(REQUEST)
    assert.equal(packet.length, 300)
    assert.equal(packet.toString('hex', 0, 16), '0101060001020304000000000a00020f')
    assert.equal(packet.toString('hex', 28, 34), '525400123456')
    const parts = ['63825363', '350103', '3d0701525400123456', '0c056c61622d37', '3703333a3b', 'ff']
    const options = parts.join('')
    assert.equal(packet.toString('hex', 236, 236 + options.length / 2), options)
    assert.ok(packet.subarray(236 + options.length / 2).every((byte) => byte === 0))
  })

  it('an answer is read, with the times it may leave out', () => {
    const request = encodeLeaseRequest(REQUEST)
    const ack = { kind: 'ack', transactionId: 0x0102_0304, leaseSeconds: 60, serverId: '10.0.2.2' }
    assert.deepEqual(
      decodeLeaseAnswer(dhcpAnswer(request, { type: 5, leaseSeconds: 60 }), MAC),
      ack,
    )
    const times = { renewalSeconds: 20, rebindingSeconds: 50 }
    const full = dhcpAnswer(request, { type: 5, leaseSeconds: 60, ...times })
    assert.deepEqual(decodeLeaseAnswer(full, MAC), { ...ack, ...times })
    const nak = decodeLeaseAnswer(dhcpAnswer(request, { type: 6 }), MAC)
    assert.deepEqual(nak, { kind: 'nak', transactionId: 0x0102_0304 })
  })

  it('what is none is none: other machines, requests, offers, cut ones', () => {
    const answer = dhcpAnswer(encodeLeaseRequest(REQUEST), { type: 5, leaseSeconds: 60 })
    assert.equal(decodeLeaseAnswer(answer, '52:54:00:12:34:57'), undefined)
    assert.equal(decodeLeaseAnswer(encodeLeaseRequest(REQUEST), MAC), undefined)
    const offer = dhcpAnswer(encodeLeaseRequest(REQUEST), { type: 2, leaseSeconds: 60 })
    assert.equal(decodeLeaseAnswer(offer, MAC), undefined)
    for (let length = 0; length < 252; length += 1) {
      assert.equal(decodeLeaseAnswer(answer.subarray(0, length), MAC), undefined)
    }
  })

  it('no packet is too strange', () => {
    const answer = dhcpAnswer(encodeLeaseRequest(REQUEST), { type: 5, leaseSeconds: 60 })
    fc.assert(
      fc.property(fc.nat(answer.length - 1), fc.nat(255), fc.nat(600), (at, byte, length) => {
        const packet = Buffer.concat([answer, Buffer.alloc(300, byte)]).subarray(0, length)
        if (at < packet.length) packet[at] = byte
        decodeLeaseAnswer(packet, MAC)
      }),
    )
  })
})
