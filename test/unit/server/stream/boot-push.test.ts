import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FrameParser } from '#agent/session/websocket-frame.ts'
import { BootPush } from '#server/stream/boot-push.ts'
import { SLAB_BYTES } from '#server/stream/slab-pool.ts'
import { CHUNK_LEVEL, NO_PAYLOAD, type ObjectHeader, readObjects } from '#shared/wire/frame.ts'
import { MESSAGE_BYTES_MAX, PUSH_RANGES_MAX } from '#shared/wire/limits.ts'
import { type BootSetFixture, chunkEntries, createBootSet } from './boot-set-fixture.ts'

interface Pushed {
  readonly header: ObjectHeader
  readonly payload: Uint8Array
}

/** Takes all that a push gives out; writes are the lengths of its parts. */
async function drain(push: BootPush): Promise<{ objects: Pushed[]; writes: number[] }> {
  const objects: Pushed[] = []
  const writes: number[] = []
  const parser = new FrameParser(MESSAGE_BYTES_MAX, (_, frame) => {
    readObjects(frame, (header, payload) => {
      objects.push({ header, payload: payload.slice() })
    })
  })
  while (push.hasWork) {
    const ready = Promise.withResolvers<void>()
    const part = push.next(ready.resolve)
    if (part === undefined) {
      await ready.promise
      continue
    }
    writes.push(part.bytes.length)
    parser.push(part.bytes)
    part.release()
  }
  return { objects, writes }
}

const namesOf = (objects: readonly Pushed[]) =>
  objects.map(({ header: { level, position } }) => ({ level, position }))

const namesIn = ({ set }: BootSetFixture, begin: number, end?: number) =>
  set.layout.entries.slice(begin, end).map(({ level, position }) => ({ level, position }))

describe('BootPush', () => {
  it('gives out the ranges in their order, with the bytes of the store', async () => {
    const fixture = await createBootSet()
    const { reader, set } = fixture
    const push = new BootPush(set, reader)
    const { length } = set.layout.entries
    push.request([{ begin: 10, end: 20 }])
    push.request([
      { begin: 20, end: length },
      { begin: 0, end: 10 },
    ])
    const { objects, writes } = await drain(push)
    assert.deepEqual(namesOf(objects), [...namesIn(fixture, 10), ...namesIn(fixture, 0, 10)])
    const target = new Uint8Array(MESSAGE_BYTES_MAX)
    for (const { header, payload } of objects) {
      const stored = await reader.readObject(header, target)
      assert.deepEqual(payload, target.slice(0, stored?.storedBytes))
    }
    // As few writes as pieces allow: one more where a range begins inside one.
    assert.ok(writes.every((bytes) => bytes <= SLAB_BYTES))
    assert.ok(writes.length <= set.layout.pieceCount + 2, `${writes.length} writes`)
  })

  it('leaves out what was sent on request, also within a range that was named before', async () => {
    const fixture = await createBootSet()
    const { reader, set } = fixture
    const push = new BootPush(set, reader)
    const requested = chunkEntries(set.layout).slice(5, 9)
    push.request([{ begin: 0, end: 30 }])
    for (const entry of requested) {
      push.leaveOut(CHUNK_LEVEL, set.layout.entries[entry]?.position ?? 0)
    }
    push.leaveOut(CHUNK_LEVEL, 599_999) // in no list
    push.leaveOut(4, 0)
    const { objects } = await drain(push)
    const expected = namesIn(fixture, 0, 30).filter((_, index) => !requested.includes(index))
    assert.deepEqual(namesOf(objects), expected)
  })

  it('has no work when all that is left was sent on request', async () => {
    const { reader, set } = await createBootSet()
    const push = new BootPush(set, reader)
    push.request([{ begin: 3, end: 4 }])
    const entry = set.layout.entries[3]
    push.leaveOut(entry?.level ?? 0, entry?.position ?? 0)
    assert.equal(push.hasWork, false)
  })

  it('says unreadable in place of what the store has lost', async () => {
    const fixture = await createBootSet()
    const { reader, set, store } = fixture
    const entry = chunkEntries(set.layout)[7] ?? 0
    store.corruptBlock = set.layout.entries[entry]?.position
    const push = new BootPush(set, reader)
    push.request([{ begin: 0, end: 20 }])
    const { objects } = await drain(push)
    assert.deepEqual(namesOf(objects), namesIn(fixture, 0, 20))
    const lost = objects.filter(({ header }) => header.encoding === NO_PAYLOAD.unreadable)
    assert.deepEqual(namesOf(lost), namesIn(fixture, entry, entry + 1))
  })

  it('joins ranges that follow one another, and bounds those that do not', async () => {
    const { reader, set } = await createBootSet()
    const push = new BootPush(set, reader)
    for (let begin = 0; begin < 60; begin += 1) push.request([{ begin, end: begin + 1 }])
    const ranges = Array.from({ length: PUSH_RANGES_MAX - 1 }, (_, at) => {
      const begin = (2 * at) % 50
      return { begin, end: begin + 1 }
    })
    push.request(ranges)
    assert.throws(() => push.request([{ begin: 5, end: 6 }]), { code: 'LIMIT_EXCEEDED' })
  })

  it('refuses entries beyond the list', async () => {
    const { reader, set } = await createBootSet()
    const { length } = set.layout.entries
    const push = new BootPush(set, reader)
    push.request([{ begin: length - 1, end: length }])
    assert.throws(() => push.request([{ begin: length, end: length + 1 }]), {
      code: 'MESSAGE_INVALID',
      message: new RegExp(`the boot list has ${length}`),
    })
  })

  it('tells nobody of pieces that come after close()', async () => {
    const { reader, set } = await createBootSet()
    const push = new BootPush(set, reader)
    push.request([{ begin: 0, end: 1 }])
    push.next(() => assert.fail('nobody is there'))
    push.close()
    await set.load(0, reader)
    assert.equal(push.hasWork, false)
  })

  it('is shared in memory: a second session reads nothing', async () => {
    const { reader, set } = await createBootSet()
    const all = [{ begin: 0, end: set.layout.entries.length }]
    const first = new BootPush(set, reader)
    first.request(all)
    await drain(first)
    const second = new BootPush(set, { ...reader, readObject: () => assert.fail('read again') })
    second.request(all)
    assert.equal((await drain(second)).objects.length, set.layout.entries.length)
  })
})
