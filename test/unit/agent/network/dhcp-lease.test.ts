import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { keepDhcpLease } from '#agent/network/dhcp-lease.ts'
import { eventually } from '#test/support/eventually.ts'
import { type Answer, DhcpServer } from './dhcp-server.ts'

const ADDRESS = '127.0.0.77'
const ACK: Answer = { type: 5, leaseSeconds: 60, serverId: '127.0.0.1' }
const NAK: Answer = { type: 6 }

/** A second is so long here. */
const MS_PER_SECOND = 10

async function start(answer: Answer | undefined) {
  const server = await DhcpServer.start(answer)
  const end = new AbortController()
  const notices: string[] = []
  const kept = keepDhcpLease({
    address: ADDRESS,
    mac: '52:54:00:12:34:56',
    hostname: 'lab-7',
    onNotice: (level, text) => notices.push(`${level}: ${text}`),
    signal: end.signal,
    network: {
      clientPort: 0,
      serverPort: server.port,
      broadcast: '127.0.0.1',
      msPerSecond: MS_PER_SECOND,
    },
  })
  const asked = async (count: number) =>
    await eventually(`request ${count}`, () => server.requests.length >= count)
  const stop = async () => {
    end.abort()
    await kept
  }
  const dispose = async () => {
    await stop()
    await server[Symbol.asyncDispose]()
  }
  return { server, notices, asked, stop, [Symbol.asyncDispose]: dispose }
}

describe('keepDhcpLease', () => {
  it('renews again and again, each time for the address there is', async () => {
    await using lease = await start(ACK)
    await lease.asked(3)
    for (const request of lease.server.requests) {
      assert.deepEqual([...request.subarray(12, 16)], [127, 0, 0, 77])
    }
    assert.deepEqual(lease.notices, [])
  })

  it('keeps the address when the server is gone for good, says so once, and when it is back', async () => {
    await using lease = await start(ACK)
    await lease.asked(1)
    lease.server.answer = undefined
    await eventually('it is told', () => lease.notices.length > 0)
    assert.match(
      lease.notices[0] ?? '',
      /^warning: The DHCP server has not renewed .*; 127.0.0.77 is/,
    )
    await lease.asked(lease.server.requests.length + 2)
    assert.equal(lease.notices.length, 1)
    lease.server.answer = ACK
    await eventually('it is told', () => lease.notices.length > 1)
    assert.match(
      lease.notices[1] ?? '',
      /^info: The DHCP server renews the lease of 127.0.0.77 again/,
    )
  })

  it('keeps the address when the server wants it back', async () => {
    await using lease = await start(ACK)
    await lease.asked(1)
    lease.server.answer = NAK
    await eventually('it is told', () => lease.notices.length > 0)
    assert.match(lease.notices[0] ?? '', /^warning: The DHCP server refuses .*; 127.0.0.77 is kept/)
  })

  it('says nothing of a server that never had the address', async () => {
    await using lease = await start(NAK)
    await lease.asked(1)
    await lease.stop()
    assert.deepEqual(lease.notices, [])
  })
})
