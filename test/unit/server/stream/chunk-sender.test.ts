import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { StoredChunk, VersionReader } from '#server/store/chunk-store.ts'
import { ChunkSender } from '#server/stream/chunk-sender.ts'
import { FramePool } from '#server/stream/frame-pool.ts'
import { CHUNK_ENCODING } from '#shared/wire/frame.ts'
import { FakeSessionSocket } from '#test/support/fake-session-socket.ts'

/** A version whose reads end when the test says so. */
class HeldReader implements VersionReader {
  readonly sizeBytes = 1000 * 4096
  readonly chunkBytes = 4096
  readonly started: number[] = []
  readonly #ends = new Map<number, () => void>()

  readChunk(chunkIndex: number, target: Uint8Array): Promise<StoredChunk> {
    this.started.push(chunkIndex)
    return new Promise((resolve) => {
      this.#ends.set(chunkIndex, () => {
        target[0] = chunkIndex
        resolve({ encoding: CHUNK_ENCODING.zstd, rawBytes: 4096, storedBytes: 1 })
      })
    })
  }

  async end(...chunkIndexes: number[]): Promise<void> {
    for (const chunkIndex of chunkIndexes) this.#ends.get(chunkIndex)?.()
    await new Promise(setImmediate)
  }

  async endAll(): Promise<void> {
    for (let ended = 0; ended < this.started.length; ended += 1) {
      await this.end(this.started[ended] ?? 0)
    }
  }

  async close(): Promise<void> {
    // Nothing is open.
  }
}

function createSender(options: { readonly congested?: boolean } = {}) {
  const reader = new HeldReader()
  const socket = new FakeSessionSocket()
  socket.congested = options.congested ?? false
  const failures: unknown[] = []
  const sender = new ChunkSender({
    reader,
    frames: new FramePool(),
    send: (frame, sent) => socket.send(frame, sent),
    bufferedBytes: () => socket.bufferedBytes,
    onFailure: (error) => failures.push(error),
  })
  const ask = (chunkIndex: number, priority = 0) =>
    sender.request({ requestId: chunkIndex, chunkIndex, priority })
  const sentIds = () => socket.pending.map((item) => ('chunk' in item ? item.chunk.requestId : -1))
  return { reader, socket, sender, ask, sentIds, failures }
}

it('ChunkSender answers in the order of the requests when reads end in another', async () => {
  const { reader, ask, sentIds } = createSender()
  for (const index of [5, 6, 7]) ask(index)
  await reader.end(7, 6)
  assert.deepEqual(sentIds(), [])
  await reader.end(5)
  assert.deepEqual(sentIds(), [5, 6, 7])
})

it('ChunkSender lets urgent requests overtake those that have not begun', async () => {
  const { reader, ask, sentIds } = createSender()
  for (const index of [10, 11, 12, 13, 14, 15]) ask(index, 3)
  ask(20, 0)
  ask(21, 0)
  ask(16, 1)
  await reader.endAll()
  assert.deepEqual(sentIds(), [10, 11, 12, 13, 20, 21, 16, 14, 15])
})

it('ChunkSender starts nothing while the socket holds too many frames', async () => {
  const { reader, socket, ask, sentIds } = createSender({ congested: true })
  for (let index = 0; index < 40; index += 1) ask(index)
  await reader.endAll()
  assert.equal(sentIds().length, 16)
  assert.equal(socket.heldCount, 16)
  socket.congested = false
  socket.release()
  await reader.endAll()
  assert.deepEqual(
    sentIds(),
    Array.from({ length: 40 }, (_, index) => index),
  )
})

it('ChunkSender starts nothing while too many bytes wait in the socket', async () => {
  const { reader, socket, ask } = createSender({ congested: true })
  ask(0)
  await reader.endAll()
  socket.bufferedBytes = 512 * 1024
  ask(1)
  assert.deepEqual(reader.started, [0])
  socket.bufferedBytes = 0
  socket.release()
  assert.deepEqual(reader.started, [0, 1])
})

it('ChunkSender refuses the request beyond the bound and beyond the end', () => {
  const { ask } = createSender()
  for (let index = 0; index < 64; index += 1) ask(index)
  assert.throws(() => ask(64), { code: 'LIMIT_EXCEEDED' })
  const other = createSender()
  assert.throws(() => other.ask(1000), { code: 'MESSAGE_INVALID' })
  other.ask(999)
})

it('ChunkSender sends nothing after close(), whatever its reads do', async () => {
  const { reader, sender, ask, sentIds, failures } = createSender()
  for (let index = 0; index < 8; index += 1) ask(index)
  sender.close()
  await reader.endAll()
  assert.deepEqual([sentIds(), failures, reader.started.length], [[], [], 4])
})
