/**
 * Sends one session what it asked for and what it lets the server push, most urgent first: demand,
 * prefetch, the boot set, hydration. Each priority is a lane.
 *
 * A request waits in its lane; it is *started* when its object is being read, into the slab the sender
 * fills at the moment; it is answered in the order of its lane. Answers that lie behind one another in a
 * slab and are ready together leave by one write. Nothing is started that would make more than
 * `BUFFERED_BYTES_MAX` wait in memory: what stands before a demand read is bounded, and so is what a
 * slow client costs. A sender with nothing to do holds no slab.
 */

import type { StoredObject, VersionReader } from '#server/store/chunk-store.ts'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { HASH_BYTES } from '#shared/manifest/content-hash.ts'
import { LEAF_BYTES_MAX, LEAF_LEVEL } from '#shared/manifest/leaf-node.ts'
import { FAN_OUT, nodesAt, treeLevels, vdiskBlocks } from '#shared/manifest/tree-shape.ts'
import {
  CHUNK_LEVEL,
  NO_PAYLOAD,
  type ObjectName,
  type ObjectRequest,
  PRIORITY,
  type PushRange,
} from '#shared/wire/frame.ts'
import { OBJECTS_IN_FLIGHT_MAX } from '#shared/wire/limits.ts'
import type { BootPush } from './boot-push.ts'
import {
  MESSAGE_HEADER_BYTES_MAX,
  messageHeaderBytes,
  writeMessageHeader,
} from './object-message.ts'
import { SLAB_BYTES, type Slab, type SlabPool } from './slab-pool.ts'

/** Keeps a disk busy and lets answers leave together. */
const READS_IN_PARALLEL = 8

/** At 1 Gbit/s a demand read waits 4 ms behind it. */
export const BUFFERED_BYTES_MAX: number = 512 * 1024

/** An inner node with its header; leaves are larger. */
const INNER_BYTES_MAX = 4 + FAN_OUT * HASH_BYTES

export interface ObjectSenderOptions {
  readonly reader: VersionReader
  readonly slabs: SlabPool
  /** Hands websocket messages to the socket; calls `sent` when their memory is free again. */
  readonly send: (bytes: Uint8Array, sent: () => void) => void
  /** Bytes handed over that the network has not taken yet. */
  readonly bufferedBytes: () => number
  /** Tells of an object that the client was told to be unreadable. */
  readonly onUnreadable: (name: ObjectName, error: unknown) => void
  /** The boot set of the version; undefined when it has none. */
  readonly push?: BootPush | undefined
}

interface ObjectSize {
  readonly headerBytes: number
  readonly payloadBytes: number
}

interface Answer {
  readonly name: ObjectName
  /** How long it may be, as far as that is known. */
  readonly plannedBytes: number
  slab: Slab | undefined
  /** Of the message in the slab; undefined until it is there. */
  begin: number | undefined
  end: number
}

/** Where in a slab an object is to be read to. */
interface Room extends ObjectSize {
  readonly slab: Slab
  readonly payloadAt: number
}

interface Lane {
  readonly waiting: ObjectName[]
  /** In the order of the requests; those at the front may be ready. */
  readonly started: Answer[]
}

export class ObjectSender {
  readonly #options: ObjectSenderOptions
  readonly #levels: number
  readonly #lanes: readonly Lane[] = Object.values(PRIORITY).map(() => ({
    waiting: [],
    started: [],
  }))
  #unansweredCount = 0
  #readingCount = 0
  /** Bytes of started answers that are not handed over yet, as planned. */
  #startedBytes = 0
  #slab: Slab | undefined
  #slabFilled = 0
  #flushing: NodeJS.Immediate | undefined
  #isClosed = false

  constructor(options: ObjectSenderOptions) {
    this.#options = options
    this.#levels = treeLevels(options.reader.sizeBytes)
  }

  /** @throws {BootwireError} MESSAGE_INVALID, LIMIT_EXCEEDED: the session is to be closed */
  request({ priority, objects }: ObjectRequest): void {
    if (this.#unansweredCount + objects.length > OBJECTS_IN_FLIGHT_MAX) {
      throw new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot queue ${objects.length} objects more: at most ${OBJECTS_IN_FLIGHT_MAX} may be unanswered`,
      )
    }
    for (const object of objects) this.#assertInside(object)
    this.#unansweredCount += objects.length
    const lane = this.#lane(priority)
    for (const object of objects) lane.waiting.push(this.#canonical(object))
    this.#pump()
  }

  /** @throws {BootwireError} MESSAGE_INVALID, LIMIT_EXCEEDED */
  push(ranges: readonly PushRange[]): void {
    const { push } = this.#options
    if (push === undefined) throw invalid('there is no boot list to push from')
    push.request(ranges)
    // Ranges that come together follow one another: then they are sent as one.
    this.#scheduleFlush()
  }

  /** Sends nothing more. Reads under way end by themselves. */
  close(): void {
    this.#isClosed = true
    clearImmediate(this.#flushing)
    this.#options.push?.close()
    for (const lane of this.#lanes) {
      lane.waiting.length = 0
      // Those still being read are released when their read ends.
      for (const { begin, slab } of lane.started) if (begin !== undefined) slab?.release()
      lane.started.length = 0
    }
    this.#dropSlab()
  }

  #lane(priority: number): Lane {
    return this.#lanes[priority] as Lane // the decoder knows no others
  }

  #assertInside({ level, position }: ObjectName): void {
    const { sizeBytes } = this.#options.reader
    if (level > this.#levels) {
      throw invalid(`there is no level ${level}: the tree of this version has ${this.#levels}`)
    }
    const count = level === CHUNK_LEVEL ? vdiskBlocks(sizeBytes) : nodesAt(sizeBytes, level)
    if (position >= count) {
      throw invalid(`there is no object ${level}/${position}: the last is ${count - 1}`)
    }
  }

  /** Chunks by their first block; what is pushed later is told that this one is on its way. */
  #canonical(name: ObjectName): ObjectName {
    const { reader, push } = this.#options
    let { position } = name
    if (name.level === CHUNK_LEVEL) {
      const index = reader.chunks.indexAt(position)
      if (index >= 0) position = reader.chunks.firstBlock(index)
    }
    push?.leaveOut(name.level, position)
    return { level: name.level, position }
  }

  #pump(): void {
    if (this.#isClosed) return
    for (let lane = this.#nextLane(); lane !== undefined; lane = this.#nextLane()) {
      const name = lane.waiting[0]
      if (name === undefined || !this.#hasRoom(roomBytes(this.#sizeOf(name)))) break
      lane.waiting.shift()
      this.#start(lane, name)
    }
    this.#pumpPush()
    if (this.#unansweredCount === 0) this.#dropSlab()
  }

  #nextLane(): Lane | undefined {
    if (this.#readingCount >= READS_IN_PARALLEL) return undefined
    const [demand, prefetch, hydration] = this.#lanes
    if (demand?.waiting.length !== 0) return demand
    if (prefetch?.waiting.length !== 0) return prefetch
    if (this.#options.push?.hasWork === true) return undefined
    return hydration?.waiting.length === 0 ? undefined : hydration
  }

  /** Behind any demand read, also one whose disk is slow; behind prefetch that has not begun. */
  #pumpPush(): void {
    const { push } = this.#options
    const [demand, prefetch] = this.#lanes
    if (push === undefined || demand?.started.length !== 0 || demand.waiting.length !== 0) return
    if (prefetch?.waiting.length !== 0) return
    while (push.hasWork && this.#hasRoom(SLAB_BYTES)) {
      const part = push.next(() => this.#pump())
      if (part === undefined) return
      this.#send(part.bytes, part.release)
    }
  }

  #hasRoom(bytes: number): boolean {
    return this.#options.bufferedBytes() + this.#startedBytes + bytes <= BUFFERED_BYTES_MAX
  }

  /** How much room an object needs: a node's length turns out when it is read. */
  #sizeOf({ level, position }: ObjectName): ObjectSize {
    if (level !== CHUNK_LEVEL) {
      const payloadBytes = level === LEAF_LEVEL ? LEAF_BYTES_MAX : INNER_BYTES_MAX
      return { headerBytes: MESSAGE_HEADER_BYTES_MAX, payloadBytes }
    }
    const { chunks } = this.#options.reader
    const index = chunks.indexAt(position)
    const payloadBytes = index < 0 ? 0 : chunks.storedBytes(index)
    return { headerBytes: messageHeaderBytes(payloadBytes), payloadBytes }
  }

  #start(lane: Lane, name: ObjectName): void {
    const plannedBytes = roomBytes(this.#sizeOf(name))
    const answer: Answer = { name, plannedBytes, slab: undefined, begin: undefined, end: 0 }
    lane.started.push(answer)
    this.#startedBytes += plannedBytes
    if (this.#takeFromBootSet(answer)) return this.#scheduleFlush()
    this.#readingCount += 1
    void this.#read(answer)
  }

  /** What others were pushed lies in memory, and who asks for one object of a piece will want the rest. */
  #takeFromBootSet(answer: Answer): boolean {
    const found = this.#options.push?.find(answer.name.level, answer.name.position)
    if (found === undefined) return false
    found.slab.retain()
    answer.slab = found.slab
    answer.begin = found.begin
    answer.end = found.end
    return true
  }

  async #read(answer: Answer): Promise<void> {
    const { level, position } = answer.name
    const loading = this.#options.push?.load(level, position)
    if (loading !== undefined) await loading
    const isThere = loading !== undefined && !this.#isClosed && this.#takeFromBootSet(answer)
    if (!isThere && !this.#isClosed) await this.#readFromStore(answer)
    this.#readingCount -= 1
    if (this.#isClosed) return answer.slab?.release()
    if (this.#readingCount === 0) this.#flush()
    else this.#scheduleFlush()
  }

  async #readFromStore(answer: Answer): Promise<void> {
    const { name } = answer
    const room = this.#takeRoom(name)
    answer.slab = room.slab
    if (name.level === CHUNK_LEVEL && room.payloadBytes === 0) {
      return putWithoutPayload(answer, room, NO_PAYLOAD.absent)
    }
    try {
      const { payloadAt, payloadBytes } = room
      const target = room.slab.bytes.subarray(payloadAt, payloadAt + payloadBytes)
      const stored = await this.#options.reader.readObject(name, target)
      if (stored === undefined) putWithoutPayload(answer, room, NO_PAYLOAD.absent)
      else putStored(answer, room, stored)
    } catch (error) {
      putWithoutPayload(answer, room, NO_PAYLOAD.unreadable)
      if (!this.#isClosed) this.#options.onUnreadable(name, error)
    }
  }

  #takeRoom(name: ObjectName): Room {
    const size = this.#sizeOf(name)
    if (this.#slab === undefined || this.#slabFilled + roomBytes(size) > SLAB_BYTES) {
      this.#dropSlab()
      this.#slab = this.#options.slabs.take()
    }
    const slab = this.#slab
    slab.retain()
    const payloadAt = this.#slabFilled + size.headerBytes
    this.#slabFilled += roomBytes(size)
    return { ...size, slab, payloadAt }
  }

  /** Once all that this turn of the event loop brings is there: it may leave together. */
  #scheduleFlush(): void {
    this.#flushing ??= setImmediate(() => this.#flush())
  }

  #flush(): void {
    clearImmediate(this.#flushing)
    this.#flushing = undefined
    if (this.#isClosed) return
    for (const { started } of this.#lanes) {
      while (started[0]?.begin !== undefined) this.#sendRun(started)
    }
    this.#pump()
  }

  /** Sends the first answers of a lane, as far as they are ready and lie behind one another. */
  #sendRun(started: Answer[]): void {
    const { slab, begin, end: firstEnd } = started[0] as Answer
    invariant(slab !== undefined, 'an answer that is ready is in a slab')
    let end = firstEnd
    let count = 1
    for (; count < started.length; count += 1) {
      const next = started[count] as Answer
      if (next.slab !== slab || next.begin !== end) break
      end = next.end
    }
    const run = started.splice(0, count)
    this.#unansweredCount -= count
    for (const answer of run) this.#startedBytes -= answer.plannedBytes
    this.#send(slab.bytes.subarray(begin, end), () => {
      for (let left = count; left > 0; left -= 1) slab.release()
    })
  }

  #send(bytes: Uint8Array, release: () => void): void {
    this.#options.send(bytes, () => {
      release()
      this.#pump()
    })
  }

  #dropSlab(): void {
    this.#slab?.release()
    this.#slab = undefined
    this.#slabFilled = 0
  }
}

function roomBytes({ headerBytes, payloadBytes }: ObjectSize): number {
  return headerBytes + payloadBytes
}

function putStored(answer: Answer, { slab, payloadAt }: Room, stored: StoredObject): void {
  const { encoding, rawBytes, storedBytes } = stored
  const header = { ...answer.name, encoding, rawBytes, storedBytes }
  answer.begin = writeMessageHeader(slab.bytes, payloadAt, header)
  answer.end = payloadAt + storedBytes
}

function putWithoutPayload(answer: Answer, { slab, payloadAt }: Room, encoding: 0 | 255): void {
  const header = { ...answer.name, encoding, rawBytes: 0, storedBytes: 0 }
  answer.begin = writeMessageHeader(slab.bytes, payloadAt, header)
  answer.end = payloadAt
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot use the agent's request: ${why}`)
}
