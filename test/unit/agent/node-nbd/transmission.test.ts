import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { ColdRequest } from '#agent/node-nbd/cold-channel.ts'
import { ProtocolError } from '#agent/node-nbd/request-reader.ts'
import { encodeRequest, NBD } from '#test/support/nbd-client.ts'
import { TransmissionBench } from '#test/support/nbd-transmission-bench.ts'

const COLD_OFFSET = 9 * 4096

function reads(count: number, length: number): Buffer {
  return Buffer.concat(
    Array.from({ length: count }, (_, index) =>
      encodeRequest({ type: NBD.read, offset: 0, length }, BigInt(index)),
    ),
  )
}

it('Transmission answers all requests of one read with one write', () => {
  const bench = new TransmissionBench()
  bench.receive(reads(32, 4096))
  assert.deepEqual(
    bench.said.map((each) => each.length),
    [32 * (16 + 4096)],
  )
})

it('Transmission sends long replies on before it has built all of them', () => {
  const bench = new TransmissionBench()
  bench.memory.fill(1)
  bench.receive(
    Buffer.concat([
      encodeRequest({ type: NBD.read, offset: 16384, length: 16384 }, 1n),
      ...Array.from({ length: 40 }, () =>
        encodeRequest({ type: NBD.read, offset: 65536, length: 65536 }, 2n),
      ),
    ]),
  )
  const total = 40 * (16 + 65536) + 16 + 16384
  assert.equal(Buffer.concat(bench.said).length, total)
  assert.ok(bench.said.length > 5, `${bench.said.length} writes`)
})

it('Transmission passes on what is not here, and answers hits behind it', () => {
  const cold: ColdRequest[] = []
  const bench = new TransmissionBench({ onCold: (request) => cold.push(request) })
  const miss = encodeRequest({ type: NBD.read, offset: COLD_OFFSET, length: 512 }, 0x1_0000_0002n)
  bench.receive(Buffer.concat([miss, reads(1, 512)]))
  const asked = { offset: COLD_OFFSET, length: 512, cookieHigh: 1, cookieLow: 2 }
  assert.deepEqual(cold, [{ type: NBD.read, flags: 0, ...asked }])
  assert.equal(Buffer.concat(bench.said).length, 16 + 512)
})

it('Transmission stays in step when a write is too long, however it is split', () => {
  const long = encodeRequest({ type: NBD.write, offset: 0, payload: Buffer.alloc(200_000, 1) }, 1n)
  const stream = Buffer.concat([long, reads(1, 512)])
  for (const pieceBytes of [1, 27, 29, 4096, 131_072]) {
    const bench = new TransmissionBench()
    bench.receive(stream, pieceBytes)
    const said = Buffer.concat(bench.said)
    assert.equal(said.length, 16 + 16 + 512, `pieces of ${pieceBytes}`)
    assert.equal(said.readUInt32BE(4), 22)
    assert.equal(bench.memory[0], 0x11, 'nothing is written')
  }
})

it('Transmission ends at DISCONNECT and does not look at what follows', () => {
  const bench = new TransmissionBench()
  const end = encodeRequest({ type: NBD.disconnect }, 0n)
  assert.equal(bench.receive(Buffer.concat([reads(1, 512), end, Buffer.from('garbage')])), false)
  assert.equal(Buffer.concat(bench.said).length, 16 + 512)
})

it('Transmission throws when a request does not begin with the magic', () => {
  const bench = new TransmissionBench()
  assert.throws(() => bench.receive(Buffer.alloc(28, 7)), ProtocolError)
})
