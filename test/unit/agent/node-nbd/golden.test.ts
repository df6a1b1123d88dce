/** Conversations byte for byte: what is in test/golden/nbd was written from the protocol, not from us. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Export } from '#agent/node-nbd/block-device.ts'
import { Handshake } from '#agent/node-nbd/handshake.ts'
import { readGolden } from '#test/support/nbd-golden.ts'
import { TransmissionBench } from '#test/support/nbd-transmission-bench.ts'

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
const EXPORTS = [DISK, { ...DISK, name: 'read-only', description: '', readOnly: true }]

/** Plays the client; the server's answers are compared turn by turn. */
function play(name: string, said: Buffer[], receive: (bytes: Buffer) => void): void {
  let answered = Buffer.alloc(0)
  for (const { who, bytes, note } of readGolden(name)) {
    answered = Buffer.concat([answered, ...said.splice(0)])
    if (who === 'client') {
      assert.equal(answered.toString('hex'), '', `nothing more is said before: ${note}`)
      receive(bytes)
      continue
    }
    const answer = answered.subarray(0, bytes.length)
    assert.equal(answer.toString('hex'), bytes.toString('hex'), note)
    answered = answered.subarray(bytes.length)
  }
  assert.equal(answered.length + said.length, 0, 'nothing is said at the end')
}

function playHandshake(name: string): ReturnType<Handshake['receive']> {
  const said: Buffer[] = []
  const handshake = new Handshake(EXPORTS, (bytes) => said.push(bytes))
  let outcome: ReturnType<Handshake['receive']>
  play(name, said, (bytes) => {
    outcome = handshake.receive(bytes)
  })
  return outcome
}

it('Handshake answers a client of today as the protocol says', () => {
  const outcome = playHandshake('handshake-go')
  assert.ok(outcome?.kind === 'done')
  assert.equal(outcome.export, DISK)
  assert.deepEqual(outcome.negotiated, { structuredReplies: true, baseAllocation: true })
})

it('Handshake answers EXPORT_NAME as the protocol says', () => {
  const outcome = playHandshake('handshake-export-name')
  assert.ok(outcome?.kind === 'done')
  assert.equal(outcome.export.name, 'read-only')
  assert.deepEqual(outcome.negotiated, { structuredReplies: false, baseAllocation: false })
  const unnamed = playHandshake('handshake-export-name-no-zeroes')
  assert.ok(unnamed?.kind === 'done')
  assert.equal(unnamed.export, DISK)
})

it('Handshake answers what it cannot do with an error and goes on', () => {
  assert.equal(playHandshake('handshake-errors')?.kind, 'over')
})

for (const [name, options] of [
  ['transmission-simple', {}],
  ['transmission-structured', { structured: true }],
  ['transmission-read-only', { readOnly: true }],
] as const) {
  it(`Transmission answers as the protocol says: ${name}`, () => {
    const bench = new TransmissionBench(options)
    play(name, bench.said, (bytes) => assert.ok(bench.receive(bytes)))
  })
}
