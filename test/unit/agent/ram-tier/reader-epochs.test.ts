import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  createReaderEpochs,
  NO_EPOCH,
  READERS_MAX,
  ReaderEpochs,
} from '#agent/ram-tier/reader-epochs.ts'

const turn = () => new Promise(setImmediate)

describe('ReaderEpochs', () => {
  it('an epoch passes when every reader was idle since', () => {
    const epochs = new ReaderEpochs(createReaderEpochs())
    const [before, after] = [epochs.claim(), epochs.claim()]
    before.enter()
    const epoch = epochs.advance()
    after.enter()
    assert.equal(epochs.hasPassed(epoch), false)
    before.leave()
    assert.equal(epochs.hasPassed(epoch), true)
    // Active again, but since later.
    before.enter()
    assert.equal(epochs.hasPassed(epoch), true)
    assert.equal(epochs.hasPassed(epochs.advance()), false)
  })

  it('a reader that enters again without having left is active since the first time', () => {
    const epochs = new ReaderEpochs(createReaderEpochs())
    const reader = epochs.claim()
    reader.enter()
    const epoch = epochs.advance()
    reader.enter()
    assert.equal(epochs.hasPassed(epoch), false)
  })

  it('hasPassed leaves out the reader it is told to', () => {
    const epochs = new ReaderEpochs(createReaderEpochs())
    const [one, other] = [epochs.claim(), epochs.claim()]
    one.enter()
    const epoch = epochs.advance()
    assert.equal(epochs.hasPassed(epoch, one), true)
    assert.equal(epochs.hasPassed(epoch, other), false)
    assert.equal(epochs.hasPassed(NO_EPOCH), true)
  })

  it('pass waits for the last reader, and for no more', async () => {
    const epochs = new ReaderEpochs(createReaderEpochs())
    const readers = [epochs.claim(), epochs.claim(), epochs.claim()]
    for (const reader of readers) reader.enter()
    let passed = 0
    const epoch = epochs.advance()
    const waiting = [epochs.pass(epoch), epochs.pass(epoch)].map((pass) =>
      pass.then(() => {
        passed += 1
      }),
    )
    for (const reader of readers) {
      await turn()
      assert.equal(passed, 0)
      reader.leave()
    }
    const startedMs = performance.now()
    await Promise.all(waiting)
    // Woken, not found when it looked again.
    assert.ok(performance.now() - startedMs < 900)
  })

  it('claim gives each slot once, and again after release', () => {
    const epochs = new ReaderEpochs(createReaderEpochs())
    const readers = Array.from({ length: READERS_MAX }, () => epochs.claim())
    assert.equal(new Set(readers.map(({ number }) => number)).size, READERS_MAX)
    assert.throws(() => epochs.claim(), /Invariant broken: more than 16 readers/)
    const [, second] = readers
    second?.enter()
    const epoch = epochs.advance()
    second?.release()
    assert.equal(epochs.hasPassed(epoch), true)
    assert.equal(epochs.claim().number, second?.number)
  })

  it('epochs go on when their number wraps around', () => {
    const memory = createReaderEpochs()
    const [word] = [new Int32Array(memory)]
    word[0] = 2 ** 31 - 3
    const epochs = new ReaderEpochs(memory)
    const reader = epochs.claim()
    for (let count = 0; count < 6; count += 1) {
      reader.enter()
      const epoch = epochs.advance()
      assert.equal(epochs.hasPassed(epoch), false, `${count}: ${epoch}`)
      reader.leave()
      reader.enter()
      assert.equal(epochs.hasPassed(epoch), true, `${count}: ${epoch}`)
      reader.leave()
    }
    assert.ok((word[0] ?? 0) < 0)
  })
})
