import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BootPush } from '#server/stream/boot-push.ts'
import { BUFFERED_BYTES_MAX, ObjectSender } from '#server/stream/object-sender.ts'
import { SlabPool } from '#server/stream/slab-pool.ts'
import {
  CHUNK_ENCODING,
  NO_PAYLOAD,
  type ObjectName,
  PRIORITY,
  type Priority,
} from '#shared/wire/frame.ts'
import { OBJECTS_IN_FLIGHT_MAX, REQUEST_OBJECTS_MAX } from '#shared/wire/limits.ts'
import { FakeSessionSocket } from '#test/support/fake-session-socket.ts'
import { createBootSet } from './boot-set-fixture.ts'
import { HeldReader } from './held-reader.ts'

/** Counts slabs that are not given back. */
class CountingPool extends SlabPool {
  used = 0

  override take() {
    this.used += 1
    return super.take()
  }

  override give(...slabs: Parameters<SlabPool['give']>) {
    this.used -= 1
    super.give(...slabs)
  }
}

function createSender(
  options: { readonly congested?: boolean; readonly storedBytes?: number } = {},
) {
  const reader = new HeldReader(options.storedBytes)
  const socket = new FakeSessionSocket()
  socket.congested = options.congested ?? false
  const unreadable: ObjectName[] = []
  const slabs = new CountingPool()
  const sender = new ObjectSender({
    reader,
    slabs,
    send: (messages, sent) => socket.send(messages, sent),
    bufferedBytes: () => socket.bufferedBytes,
    onUnreadable: (name) => unreadable.push(name),
  })
  const ask = (positions: readonly number[], priority: Priority = 0, level = 0) =>
    sender.request({ priority, objects: positions.map((position) => ({ level, position })) })
  const sent = () =>
    socket.pending.map((item) => ('object' in item ? item.object.position : Number.NaN))
  return { reader, socket, sender, ask, sent, unreadable, slabs }
}

const upTo = (end: number, begin = 0) => Array.from({ length: end - begin }, (_, at) => begin + at)

describe('ObjectSender', () => {
  it('answers in the order of the requests when reads end in another', async () => {
    const { reader, ask, sent } = createSender()
    ask([5, 6])
    ask([7])
    await reader.end(7, 6)
    assert.deepEqual(sent(), [])
    await reader.end(5)
    assert.deepEqual(sent(), [5, 6, 7])
  })

  it('sends each object with its header and bytes', async () => {
    const { reader, ask, socket } = createSender({ storedBytes: 300 })
    ask([0x102])
    await reader.endAll()
    const object = await socket.nextObject()
    assert.deepEqual(object, {
      level: 0,
      position: 0x102,
      encoding: CHUNK_ENCODING.zstd,
      rawBytes: 4096,
      storedBytes: 300,
      payload: new Uint8Array(300).fill(2),
    })
  })

  it('sends by one write what is ready together', async () => {
    const { reader, ask, socket, sent } = createSender()
    ask([10, 11, 12, 13])
    await reader.end(11, 12, 13, 10)
    assert.deepEqual(sent(), [10, 11, 12, 13])
    assert.equal(socket.writes.length, 1)
  })

  it('lets urgent requests overtake those that have not begun, and wait for no slower lane', async () => {
    const { reader, ask, sent } = createSender()
    ask(upTo(20, 10), 2)
    ask([30], 1)
    ask([20, 21], 0)
    assert.deepEqual(reader.started.map(Number), upTo(18, 10))
    await reader.end(17)
    assert.equal(reader.started.at(-1), '20')
    await reader.end(20)
    assert.deepEqual(sent(), [20])
    assert.equal(reader.started.at(-1), '21')
    await reader.endAll()
    const order = sent()
    assert.ok(order.indexOf(21) < order.indexOf(18), 'demand before what waits')
    assert.ok(order.indexOf(30) < order.indexOf(18), 'prefetch before hydration that waits')
    assert.deepEqual(
      order.filter((it) => it < 20),
      upTo(20, 10),
    )
  })

  it('answers zeros as absent without reading, by the name that was asked for', async () => {
    const { ask, socket, reader } = createSender()
    ask([1])
    const object = await socket.nextObject()
    assert.deepEqual([object.position, object.encoding], [1, NO_PAYLOAD.absent])
    assert.deepEqual(reader.started, [])
  })

  it('answers what cannot be read as unreadable, in its place, and goes on', async () => {
    const { reader, ask, socket, unreadable } = createSender()
    ask([5, 6, 7])
    await reader.end(5, 7)
    await reader.fail(6, new Error('a bad sector'))
    const encodings = await Promise.all([1, 2, 3].map(async () => await socket.nextObject()))
    assert.deepEqual(
      encodings.map(({ position, encoding }) => [position, encoding]),
      [
        [5, CHUNK_ENCODING.zstd],
        [6, NO_PAYLOAD.unreadable],
        [7, CHUNK_ENCODING.zstd],
      ],
    )
    assert.deepEqual(unreadable, [{ level: 0, position: 6 }])
  })

  it('sends nodes of any length', async () => {
    for (const storedBytes of [4, 50, 100, 106, 107, 65_515, 65_516, 139_268]) {
      const { reader, ask, socket } = createSender({ storedBytes })
      ask([0, 1], 0, 1)
      await reader.end('1/0', '1/1')
      for (const position of [0, 1]) {
        const { level, payload } = await socket.nextObject()
        assert.equal(level, 1)
        assert.deepEqual(payload, new Uint8Array(storedBytes).fill(position))
      }
    }
  })

  it('sends chunks of any length behind one another', async () => {
    for (const storedBytes of [1, 105, 106, 107, 65_514, 65_515, 65_516, 131_072]) {
      const { reader, ask, socket } = createSender({ storedBytes })
      ask([2, 3, 4])
      await reader.endAll()
      for (const position of [2, 3, 4]) {
        const { payload } = await socket.nextObject()
        assert.deepEqual(payload, new Uint8Array(storedBytes).fill(position))
      }
    }
  })

  it('starts nothing that would make more wait than may, and goes on when there is room', async () => {
    const storedBytes = 60_000
    const { reader, socket, ask, sent } = createSender({ congested: true, storedBytes })
    ask(upTo(42, 2))
    await reader.endAll()
    assert.equal(sent().length, Math.floor(BUFFERED_BYTES_MAX / storedBytes))
    assert.ok(socket.bufferedBytes <= BUFFERED_BYTES_MAX)
    socket.congested = false
    socket.release()
    await reader.endAll()
    assert.deepEqual(sent(), upTo(42, 2))
  })

  it('gives its memory back when all is sent', async () => {
    const { reader, socket, ask, slabs } = createSender({ congested: true, storedBytes: 30_000 })
    ask(upTo(12, 2))
    ask([0], 0, 1)
    await reader.endAll()
    assert.ok(slabs.used > 0)
    socket.congested = false
    socket.release()
    await reader.endAll()
    assert.equal(slabs.used, 0)
  })

  it('refuses more objects than may be unanswered', async () => {
    const { ask, reader, sent } = createSender()
    for (let asked = 0; asked < OBJECTS_IN_FLIGHT_MAX; asked += REQUEST_OBJECTS_MAX) {
      ask(upTo(2 + asked + REQUEST_OBJECTS_MAX, 2 + asked))
    }
    assert.throws(() => ask([0]), { code: 'LIMIT_EXCEEDED' })
    await reader.end(2)
    assert.equal(sent().length, 1)
    ask([0])
  })

  it('refuses names that are not in the tree of the version, and takes the last that are', () => {
    const { ask, sender } = createSender()
    // 5000 blocks: two leaves and a node over them.
    ask([4999])
    ask([1], 0, 1)
    ask([0], 0, 2)
    for (const [level, position] of [
      [0, 5000],
      [1, 2],
      [2, 1],
      [3, 0],
      [0, 0xffff_ffff],
    ] as const) {
      assert.throws(() => ask([position], 0, level), { code: 'MESSAGE_INVALID' })
    }
    assert.throws(() => sender.push([{ begin: 0, end: 1 }]), {
      code: 'MESSAGE_INVALID',
      message: /no boot list/,
    })
  })

  it('sends nothing after close(), whatever its reads do, and keeps no memory', async () => {
    const { reader, sender, ask, sent, unreadable, slabs } = createSender()
    ask(upTo(22, 2))
    await reader.end(3, 4)
    sender.close()
    await reader.fail(5, new Error('a bad sector'))
    await reader.endAll()
    assert.deepEqual([sent(), unreadable, reader.started.length], [[], [], 10])
    assert.equal(slabs.used, 0)
  })
})

describe('ObjectSender with a boot set', () => {
  it('answers without reading what lies in memory since it was pushed to others', async () => {
    const { set, reader, slabs } = await createBootSet()
    await set.load(1, reader)
    const { first, end } = set.layout.piece(1)
    const socket = new FakeSessionSocket()
    const read: ObjectName[] = []
    const sender = new ObjectSender({
      reader: {
        ...reader,
        readObject: async (name, target) => {
          read.push(name)
          return await reader.readObject(name, target)
        },
      },
      slabs,
      send: (messages, sent) => socket.send(messages, sent),
      bufferedBytes: () => socket.bufferedBytes,
      onUnreadable: (_, error) => assert.fail(String(error)),
      push: new BootPush(set, reader),
    })
    const objects = set.layout.entries.slice(first - 1, end + 1)
    sender.request({ priority: PRIORITY.demand, objects })
    const target = new Uint8Array(200_000)
    for (const { level, position } of objects) {
      const object = await socket.nextObject()
      assert.deepEqual([object.level, object.position], [level, position])
      const stored = await reader.readObject({ level, position }, target)
      assert.deepEqual(object.payload, target.slice(0, stored?.storedBytes))
    }
    const outside = [objects[0], objects.at(-1)].map((it) => it?.position)
    assert.deepEqual(
      read.map(({ position }) => position),
      outside,
    )
    assert.ok(socket.writes.length <= 3, `${socket.writes.length} writes`)
  })

  it('pushes behind demand reads and prefetch that waits, and before hydration', async () => {
    const { set, reader } = await createBootSet()
    const count = 10
    for (let piece = 0; piece <= set.layout.pieceOf(count); piece += 1)
      await set.load(piece, reader)
    const held = Promise.withResolvers<void>()
    const socket = new FakeSessionSocket()
    const sender = new ObjectSender({
      reader: {
        ...reader,
        readObject: async (name, target) => {
          await held.promise
          return await reader.readObject(name, target)
        },
      },
      slabs: new SlabPool(),
      send: (messages, sent) => socket.send(messages, sent),
      bufferedBytes: () => socket.bufferedBytes,
      onUnreadable: (_, error) => assert.fail(String(error)),
      push: new BootPush(set, reader),
    })
    const last = reader.chunks.count - 1
    const ask = (index: number, priority: Priority) => {
      const position = reader.chunks.firstBlock(index)
      sender.request({ priority, objects: [{ level: 0, position }] })
      return position
    }
    const demanded = ask(last, PRIORITY.demand)
    sender.push([{ begin: 0, end: count }])
    const hydrated = ask(last - 1, PRIORITY.hydration)
    const prefetched = ask(last - 2, PRIORITY.prefetch)
    await new Promise(setImmediate)
    assert.equal(socket.pending.length, 0, 'somebody waits for a slow disk')
    held.resolve()
    const got = []
    for (let at = 0; at < count + 3; at += 1) got.push((await socket.nextObject()).position)
    assert.equal(got[0], demanded)
    assert.equal(got.at(-1), hydrated)
    assert.ok(got.includes(prefetched))
    await new Promise(setImmediate)
    assert.equal(socket.pending.length, 0)
  })
})
