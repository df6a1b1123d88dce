import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import { NbdReader } from '#test/bench/nbd-reader.ts'

const HANDSHAKE = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT\0\x03'), Buffer.alloc(10)])

function replyTo(cookie: bigint, data: string): Buffer {
  const header = Buffer.alloc(16)
  header.writeUInt32BE(0x67446698, 0)
  header.writeBigUInt64BE(cookie, 8)
  return Buffer.concat([header, Buffer.from(data)])
}

describe('NbdReader', () => {
  it('takes replies in any order and cut anywhere', async () => {
    const server = createServer({ noDelay: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const accepted = once(server, 'connection') as Promise<[Socket]>
    const received = new Map<number, string>()
    const opening = NbdReader.connect(
      `127.0.0.1:${(server.address() as AddressInfo).port}`,
      (at, piece) => {
        for (const [index, byte] of piece.entries())
          received.set(at + index, String.fromCharCode(byte))
      },
    )
    const [socket] = await accepted
    for (const byte of HANDSHAKE) socket.write(Buffer.of(byte))
    const reader = await opening
    const done: number[] = []
    const ended = new Promise<void>((resolve) => {
      for (const offset of [100, 200]) {
        reader.read(offset, 3, () => {
          done.push(offset)
          if (done.length === 2) resolve()
        })
      }
    })
    for (const byte of Buffer.concat([replyTo(1n, 'two'), replyTo(0n, 'one')])) {
      socket.write(Buffer.of(byte))
      await new Promise(setImmediate)
    }
    await ended
    assert.deepEqual(done, [200, 100])
    const bytesAt = (at: number) => [0, 1, 2].map((index) => received.get(at + index)).join('')
    assert.equal(bytesAt(100), 'one')
    assert.equal(bytesAt(200), 'two')
    reader.close()
    socket.destroy()
    server.close()
  })
})
