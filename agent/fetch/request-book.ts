/**
 * What is asked for on the connection there is and has not been answered, and how much of the path it
 * takes. Forgotten with the connection.
 */
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import {
  CHUNK_LEVEL,
  type ObjectHeader,
  type ObjectName,
  PRIORITY,
  type Priority,
} from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX, OBJECTS_IN_FLIGHT_MAX, REQUEST_OBJECTS_MAX } from '#shared/wire/limits.ts'
import { objectKey } from './object-fetch.ts'
import type { ObjectTransport } from './object-transport.ts'
import type { PathLoad, Sent } from './path-load.ts'

/** What nobody waits for leaves room for demand reads. */
const UNHURRIED_MAX = 256
const IN_FLIGHT_MAX: Readonly<Record<Priority, number>> = {
  [PRIORITY.demand]: OBJECTS_IN_FLIGHT_MAX,
  [PRIORITY.prefetch]: OBJECTS_IN_FLIGHT_MAX - UNHURRIED_MAX,
  [PRIORITY.hydration]: OBJECTS_IN_FLIGHT_MAX - UNHURRIED_MAX,
}

interface Asked {
  /** Answers that will come: it may have been asked for again with more hurry. */
  answers: number
  readonly askedAtMs: number
  /** Absent when somebody waits for it. */
  readonly sent: Sent | undefined
}

export class RequestBook {
  readonly #transport: ObjectTransport
  readonly #load: PathLoad
  readonly #asked = new Map<number, Asked>()
  /** Blocks by which chunks were asked for whose leaf is not here. */
  readonly #speculative = new Set<number>()
  #answersExpected = 0
  #names: ObjectName[] = []
  #namesPriority: Priority = PRIORITY.demand

  constructor(transport: ObjectTransport, load: PathLoad) {
    this.#transport = transport
    this.#load = load
  }

  get answersExpected(): number {
    return this.#answersExpected
  }

  mayAsk(priority: Priority): boolean {
    return this.#answersExpected < IN_FLIGHT_MAX[priority]
  }

  /** Asks for an object of some `usualBytes`; it leaves with the next `flush`. */
  ask(name: ObjectName, priority: Priority, { nowMs, usualBytes, isSpeculative }: Ask): void {
    if (priority !== this.#namesPriority || this.#names.length === REQUEST_OBJECTS_MAX) this.flush()
    this.#namesPriority = priority
    this.#names.push({ level: name.level, position: name.position })
    this.#answersExpected += 1
    if (isSpeculative) this.#speculative.add(name.position)
    const key = objectKey(name.level, name.position)
    const before = this.#asked.get(key)
    if (before !== undefined) {
      before.answers += 1
      return
    }
    const isHurried = priority === PRIORITY.demand
    const sent = isHurried ? undefined : this.#load.send(usualBytes, nowMs)
    this.#asked.set(key, { answers: 1, askedAtMs: nowMs, sent })
  }

  flush(): void {
    if (this.#names.length === 0) return
    this.#transport.request({ priority: this.#namesPriority, objects: this.#names })
    this.#names = []
  }

  /** The chunk asked for by `block` begins at `firstBlock`: so its answer will be called. */
  rename(block: number, firstBlock: number): void {
    this.#speculative.delete(block)
    const key = objectKey(CHUNK_LEVEL, block)
    const asked = this.#asked.get(key)
    if (asked === undefined || block === firstBlock) return
    this.#asked.delete(key)
    const newKey = objectKey(CHUNK_LEVEL, firstBlock)
    const present = this.#asked.get(newKey)
    if (present === undefined) this.#asked.set(newKey, asked)
    else present.answers += asked.answers // nobody speculates but in a hurry: nothing was sent
  }

  /** Takes note of an answer; returns whether the object was asked for. */
  answered(header: ObjectHeader, nowMs: number): boolean {
    const position = this.#askedPosition(header)
    const key = objectKey(header.level, position)
    const asked = this.#asked.get(key)
    if (asked === undefined) return false
    this.#answersExpected -= 1
    asked.answers -= 1
    if (asked.answers > 0) return true
    if (asked.sent !== undefined) this.#load.arrived(asked.sent, header.storedBytes, nowMs)
    else this.#load.window.demandArrived(asked.askedAtMs, nowMs)
    this.#asked.delete(key)
    if (header.level === CHUNK_LEVEL) this.#speculative.delete(position)
    return true
  }

  /** The connection is lost; the load forgets by itself. */
  clear(): void {
    this.#asked.clear()
    this.#speculative.clear()
    this.#names = []
    this.#answersExpected = 0
  }

  /** A chunk may have been asked for by any of its blocks; without a payload its length is not told. */
  #askedPosition({ level, position, rawBytes }: ObjectHeader): number {
    if (level !== CHUNK_LEVEL || this.#asked.has(objectKey(level, position))) return position
    const blocks = Math.ceil((rawBytes > 0 ? rawBytes : CHUNK_BYTES_MAX) / BLOCK_BYTES)
    const end = position + blocks
    for (const block of this.#speculative) if (block >= position && block < end) return block
    return position
  }
}

interface Ask {
  readonly nowMs: number
  readonly usualBytes: number
  /** A chunk named by any of its blocks. */
  readonly isSpeculative: boolean
}
