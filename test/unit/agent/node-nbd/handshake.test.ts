import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Export } from '#agent/node-nbd/block-device.ts'
import { Handshake } from '#agent/node-nbd/handshake.ts'
import { readGolden } from '#test/support/nbd-golden.ts'

const DISK: Export = {
  name: 'disk',
  description: 'a disk',
  sizeBytes: 1024 * 1024,
  readOnly: false,
  minimumBlockBytes: 512,
  preferredBlockBytes: 4096,
  maximumBlockBytes: 1024 * 1024,
  hot: { moduleUrl: '', data: undefined },
}
const OTHER = { ...DISK, name: 'other' }

const TOO_BIG = 0x80000009

function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  values.forEach((value, index) => bytes.writeUInt32BE(value >>> 0, 4 * index))
  return bytes
}

function option(type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.from('IHAVEOPT'), uint32(type, data.length), data])
}

function named(name: string): Buffer {
  return Buffer.concat([uint32(name.length), Buffer.from(name)])
}

function start(): { handshake: Handshake; said: Buffer[]; types: () => number[] } {
  const said: Buffer[] = []
  const handshake = new Handshake([DISK, OTHER], (bytes) => said.push(bytes))
  handshake.receive(uint32(3))
  const types = () => said.slice(1).map((reply) => reply.readUInt32BE(12))
  return { handshake, said, types }
}

it('Handshake skips the data of an option that is too long and answers the next one', () => {
  const { handshake, types } = start()
  const long = option(6, Buffer.alloc(100_000, 0x49))
  handshake.receive(long.subarray(0, 50_000))
  handshake.receive(Buffer.concat([long.subarray(50_000), option(8)]))
  assert.deepEqual(types(), [TOO_BIG, 1])
})

it('Handshake keeps nothing of an option that is too long', () => {
  const { handshake } = start()
  const before = process.memoryUsage().arrayBuffers
  handshake.receive(Buffer.concat([Buffer.from('IHAVEOPT'), uint32(6, 0xffff_ffff)]))
  const piece = Buffer.alloc(64 * 1024)
  for (let sent = 0; sent < 1000; sent += 1) handshake.receive(piece)
  assert.ok(process.memoryUsage().arrayBuffers - before < 10_000_000)
})

it('Handshake is over after too many options', () => {
  const { handshake } = start()
  let outcome: ReturnType<Handshake['receive']>
  let count = 0
  for (; outcome === undefined && count < 1000; count += 1) outcome = handshake.receive(option(3))
  assert.equal(outcome?.kind, 'over')
  assert.equal(count, 65)
})

it('Handshake is over when the client does not speak the protocol', () => {
  const { handshake } = start()
  assert.equal(handshake.receive(Buffer.from('GET / HTTP/1.1\r\n'))?.kind, 'over')
  const flags = new Handshake([DISK], () => {})
  assert.equal(flags.receive(uint32(0x10))?.kind, 'over')
})

it('Handshake is over when EXPORT_NAME names no export, for there is no other answer', () => {
  const { handshake, said } = start()
  assert.equal(handshake.receive(option(1, Buffer.from('nothing')))?.kind, 'over')
  assert.equal(said.length, 1)
})

it('Handshake forgets a context that was set for another export', () => {
  const { handshake } = start()
  handshake.receive(option(8))
  const query = Buffer.concat([named('other'), uint32(1), named('base:allocation')])
  handshake.receive(option(10, query))
  const outcome = handshake.receive(option(7, Buffer.concat([named('disk'), Buffer.alloc(2)])))
  assert.ok(outcome?.kind === 'done')
  assert.equal(outcome.negotiated.baseAllocation, false)
})

it('Handshake hands on the bytes that came behind its end', () => {
  const { handshake } = start()
  const go = option(7, Buffer.concat([named('disk'), Buffer.alloc(2)]))
  const outcome = handshake.receive(Buffer.concat([go, Buffer.from('early')]))
  assert.ok(outcome?.kind === 'done')
  assert.equal(outcome.early.toString(), 'early')
})

it('Handshake says the same when every byte comes alone', () => {
  const turns = readGolden('handshake-errors')
  const sides = { client: [] as Buffer[], server: [] as Buffer[] }
  for (const { who, bytes } of turns) sides[who].push(bytes)
  const said: Buffer[] = []
  const readOnly = { ...DISK, name: 'read-only', description: '', readOnly: true }
  const handshake = new Handshake([DISK, readOnly], (bytes) => said.push(bytes))
  for (const byte of Buffer.concat(sides.client)) handshake.receive(Buffer.of(byte))
  assert.deepEqual(Buffer.concat(said), Buffer.concat(sides.server))
})
