import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { decodeTftp, encodeData, encodeError, encodeOptionAck } from '#server/pxe/tftp-message.ts'

const request = (...texts: string[]) =>
  Buffer.concat([Buffer.of(0, 1), Buffer.from(texts.map((text) => `${text}\0`).join(''), 'latin1')])

describe('TFTP packets', () => {
  it('a read request is read with its options, as OVMF and iPXE send it', () => {
    const packet = request(
      'snponly.efi',
      'octet',
      'tsize',
      '0',
      'blksize',
      '1468',
      'WINDOWSIZE',
      '4',
    )
    assert.deepEqual(decodeTftp(packet), {
      kind: 'read',
      name: 'snponly.efi',
      mode: 'octet',
      options: new Map([
        ['tsize', '0'],
        ['blksize', '1468'],
        ['windowsize', '4'],
      ]),
    })
    assert.deepEqual(decodeTftp(request('a', 'OCTET')), {
      kind: 'read',
      name: 'a',
      mode: 'octet',
      options: new Map(),
    })
  })

  it('the others are read as far as a server needs them', () => {
    assert.deepEqual(decodeTftp(Buffer.of(0, 2, 97, 0, 98, 0)), { kind: 'write' })
    assert.deepEqual(decodeTftp(Buffer.of(0, 4, 1, 2)), { kind: 'ack', block: 0x0102 })
    const aborted = Buffer.from('0005000855736572206162 6f727400'.replaceAll(' ', ''), 'hex')
    assert.deepEqual(decodeTftp(aborted), { kind: 'error', code: 8, text: 'User abort' })
  })

  it('what a server sends has the bytes of the RFCs', () => {
    assert.equal(encodeData(0x1_0002, Buffer.from('ab')).toString('hex'), '000300026162')
    const ack = encodeOptionAck(new Map([['tsize', 10]]))
    assert.equal(ack.toString('latin1'), '\0\x06tsize\x0010\0')
    assert.equal(encodeError(1, 'No').toString('latin1'), '\0\x05\0\x01No\0')
  })

  it('no packet is too strange', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.nat(7), (bytes, opcode) => {
        const packet = Buffer.from(bytes)
        if (packet.length > 1) packet.set([0, opcode])
        decodeTftp(packet)
      }),
    )
    for (const text of ['', '\0\x01', '\0\x01abc', '\0\x01\0', '\0\x01\0\0', '\0\x01a\0octet']) {
      decodeTftp(Buffer.from(text, 'latin1'))
    }
    assert.equal(decodeTftp(request('x'.repeat(600), 'octet')), undefined)
  })
})
