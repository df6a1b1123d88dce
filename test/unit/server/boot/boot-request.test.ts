import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { describe, it } from 'node:test'
import { parseBootId, parseBootRequest, reachedAt } from '#server/boot/boot-request.ts'

const parse = (query: string) => parseBootRequest(new URLSearchParams(query))

const requestTo = (host: string | undefined, localAddress = '::ffff:10.1.2.3') =>
  ({ headers: host === undefined ? {} : { host }, socket: { localAddress } }) as IncomingMessage

describe('parseBootRequest', () => {
  it('takes what iPXE sends', () => {
    const query =
      'mac=52-54-00-AB-cd-ef&uuid=4C4C4544-0044-4a10-8053-b4c04f4e3432&bus=01-80-86-10-0e&platform=efi&arch=x86_64&serial=A%3AB%20c'
    assert.deepEqual(parse(query), {
      facts: {
        mac: '52:54:00:ab:cd:ef',
        uuid: '4c4c4544-0044-4a10-8053-b4c04f4e3432',
        serial: 'A:B c',
      },
      device: 'pci:8086:100e',
    })
  })

  it('counts what is not as it must be as not said', () => {
    const long = 'a'.repeat(129)
    for (const query of [
      '',
      'mac=&uuid=&serial=&bus=',
      'mac=52-54-00&bus=01-80',
      'mac=${net0}&uuid=$(reboot)&serial=%0Ashell&bus=99-00-00-00-00',
      `mac=${long}&uuid=${long}&serial=${long}&bus=${long}`,
    ]) {
      assert.deepEqual(parse(query), { facts: {} })
    }
  })

  it('takes the first of what is said twice, which stands before the serial number', () => {
    assert.equal(
      parse('mac=52-54-00-00-00-01&serial=x&mac=52-54-00-00-00-02').facts.mac,
      '52:54:00:00:00:01',
    )
  })
})

describe('parseBootId', () => {
  it('takes ids in hex only', () => {
    assert.equal(parseBootId(new URLSearchParams('boot=0123456789abcdef')), '0123456789abcdef')
    assert.equal(parseBootId(new URLSearchParams('boot=..')), undefined)
    assert.equal(parseBootId(new URLSearchParams('')), undefined)
  })
})

describe('reachedAt', () => {
  it('is the host the client named', () => {
    assert.equal(reachedAt(requestTo('10.0.2.2:8080')), '10.0.2.2')
    assert.equal(reachedAt(requestTo('boot.example.org')), 'boot.example.org')
    assert.equal(reachedAt(requestTo('[FD00::1]:8080')), 'fd00::1')
  })

  it('is the address of the socket when the host is missing or no host', () => {
    for (const host of [
      undefined,
      '',
      'a b',
      'x"y',
      '${ip}',
      '-a',
      'a/b',
      'h:port',
      'a'.repeat(300),
    ]) {
      assert.equal(reachedAt(requestTo(host)), '10.1.2.3')
    }
    assert.equal(reachedAt(requestTo(undefined, 'fd00::5')), 'fd00::5')
  })
})
