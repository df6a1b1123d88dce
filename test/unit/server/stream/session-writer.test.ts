import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import { it } from 'node:test'
import { SessionWriter } from '#server/stream/session-writer.ts'

/** A stream that takes a piece when it is told to. */
class HeldStream extends Duplex {
  readonly pieces: string[] = []
  #taken: (() => void) | undefined

  override _write(bytes: Buffer, _: string, done: () => void): void {
    this.pieces.push(bytes.toString())
    this.#taken = done
  }

  /** As a socket does it: what is under way fails. */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#taken?.()
    done(error)
  }

  override _read(): void {
    // Nothing comes.
  }

  async takePiece(): Promise<void> {
    this.#taken?.()
    await new Promise(setImmediate)
  }
}

it('SessionWriter writes one piece at a time, and tells of each when it is taken', async () => {
  const stream = new HeldStream()
  const writer = new SessionWriter(stream)
  const sent: string[] = []
  for (const text of ['first', 'second', 'third']) {
    writer.write(Buffer.from(text), () => sent.push(text))
  }
  assert.deepEqual([stream.pieces, writer.bufferedBytes], [['first'], 16])
  await stream.takePiece()
  assert.deepEqual(
    [stream.pieces, sent, writer.bufferedBytes],
    [['first', 'second'], ['first'], 11],
  )
  await stream.takePiece()
  await stream.takePiece()
  assert.deepEqual([sent, writer.bufferedBytes], [['first', 'second', 'third'], 0])
  writer.write(Buffer.from('fourth'), () => undefined)
  assert.equal(stream.pieces.at(-1), 'fourth')
})

it('SessionWriter.flush has what others write come behind all that waits', async () => {
  const stream = new HeldStream()
  const writer = new SessionWriter(stream)
  const sent: string[] = []
  for (const text of ['a', 'b', 'c']) writer.write(Buffer.from(text), () => sent.push(text))
  writer.flush()
  stream.write('close frame')
  for (let taken = 0; taken < 4; taken += 1) await stream.takePiece()
  assert.equal(stream.pieces.join(''), 'abcclose frame')
  assert.deepEqual([sent, writer.bufferedBytes], [['a', 'b', 'c'], 0])
})

it('SessionWriter tells of all pieces when the stream is gone', async () => {
  const stream = new HeldStream().on('error', () => undefined)
  const writer = new SessionWriter(stream)
  let sent = 0
  for (let at = 0; at < 3; at += 1) writer.write(Buffer.from('x'), () => (sent += 1))
  stream.destroy(new Error('reset'))
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  assert.deepEqual([sent, writer.bufferedBytes], [3, 0])
})
