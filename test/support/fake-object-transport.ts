/**
 * A server's stream of one version, in memory. `FakeObjectTransport` answers when told to, in the
 * order and the way it is told to; `HonestTransport` answers by itself as PROTOCOL.md says.
 */
import type { ObjectListener, ObjectTransport } from '#agent/fetch/object-transport.ts'
import { invariant } from '#shared/invariant.ts'
import {
  type BootListEntry,
  CHUNK_LEVEL,
  type ObjectHeader,
  type ObjectName,
  type ObjectRequest,
  PRIORITY,
  type Priority,
  type PushRange,
  type TraceEntry,
} from '#shared/wire/frame.ts'
import { type MemoryVersion, nodeKey, type StoredObject } from './memory-version.ts'

export interface PendingObject extends ObjectName {
  readonly priority: Priority
  /** Index in the boot list of an object to be pushed. */
  readonly pushIndex?: number
}

export interface FakeTransportOptions {
  readonly open?: boolean
  readonly bootList?: readonly BootListEntry[]
  /** Entries of the list that are pushed unasked. */
  readonly firstPush?: number
}

export class FakeObjectTransport implements ObjectTransport {
  /** Objects asked for or granted and not sent yet, in the order they came. */
  readonly pending: PendingObject[] = []
  /** Every request, push and trace ever sent. */
  readonly requests: ObjectRequest[] = []
  readonly pushes: PushRange[] = []
  readonly traces: (readonly TraceEntry[])[] = []
  readonly version: MemoryVersion
  readonly #options: FakeTransportOptions
  /** Objects asked for on this connection: they are left out of the push. */
  readonly #leftOut = new Set<string>()
  #listener: ObjectListener | undefined
  #isOpen: boolean

  constructor(version: MemoryVersion, options: FakeTransportOptions = {}) {
    this.version = version
    this.#options = options
    this.#isOpen = options.open ?? true
  }

  listen(listener: ObjectListener): void {
    this.#listener = listener
    if (this.#isOpen) this.#announce()
  }

  request(request: ObjectRequest): void {
    if (!this.#isOpen) return
    this.requests.push(request)
    const { priority, objects } = request
    for (const name of objects) {
      this.#leftOut.add(this.#keyOf(name))
      this.pending.push({ ...name, priority })
    }
    this.onPending()
  }

  push(ranges: readonly PushRange[]): void {
    if (!this.#isOpen) return
    this.pushes.push(...ranges)
    for (const { begin, end } of ranges) this.#enqueuePush(begin, end)
    this.onPending()
  }

  sendTrace(entries: readonly TraceEntry[]): void {
    if (this.#isOpen) this.traces.push(entries)
  }

  open(): void {
    this.#isOpen = true
    this.#announce()
  }

  lose(): void {
    this.#isOpen = false
    this.pending.length = 0
    this.#leftOut.clear()
    this.#listener?.onLost()
  }

  /** Sends one pending object as it is. */
  answer(at = 0): void {
    const pending = this.takePending(at)
    const stored = this.version.object(pending)
    if (pending.pushIndex !== undefined && this.#leftOut.has(this.#keyOf(pending))) return
    this.deliver(stored)
  }

  answerAll(): void {
    while (this.pending.length > 0) this.answer(this.next())
  }

  /** Sends instead of one pending object what is made of its true answer. */
  answerWith(at: number, change: (stored: StoredObject) => StoredObject): void {
    this.deliver(change(this.version.object(this.takePending(at))))
  }

  /** Sends an object, asked for or not, in memory that changes right after, as a transport may do. */
  deliver({ header, payload }: StoredObject): void {
    const copy = Uint8Array.from(payload)
    this.#listener?.onObject(header satisfies ObjectHeader, copy)
    copy.fill(0xee)
  }

  takePending(at: number): PendingObject {
    const [pending] = this.pending.splice(at, 1)
    invariant(pending !== undefined, `nothing pending at ${at}`)
    return pending
  }

  /** The pending object that a server sends next: a lower number overtakes. */
  next(): number {
    let next = 0
    for (const [at, { priority }] of this.pending.entries()) {
      if (priority < (this.pending[next]?.priority ?? 0)) next = at
    }
    return next
  }

  /** Where an object is pending; -1 for nowhere. A chunk is found by any of its blocks. */
  find(level: number, position: number): number {
    return this.pending.findIndex((it) => {
      if (it.level !== level) return false
      if (level !== CHUNK_LEVEL) return it.position === position
      return this.version.chunkAt(it.position) === this.version.chunkAt(position)
    })
  }

  /** For those who answer by themselves. */
  protected onPending(): void {
    // Waits to be told.
  }

  #keyOf({ level, position }: ObjectName): string {
    const chunk = level === CHUNK_LEVEL ? this.version.chunkAt(position) : undefined
    return nodeKey(level, chunk?.firstBlock ?? position)
  }

  #enqueuePush(begin: number, end: number): void {
    const list = this.#options.bootList ?? []
    for (let pushIndex = begin; pushIndex < Math.min(end, list.length); pushIndex += 1) {
      const entry = list[pushIndex]
      if (entry === undefined) continue
      const { level, position } = entry
      this.pending.push({ level, position, priority: PRIORITY.prefetch, pushIndex })
    }
  }

  #announce(): void {
    const { bootList, firstPush = 0 } = this.#options
    this.#listener?.onOpen()
    if (bootList === undefined || !this.#isOpen) return
    this.#enqueuePush(0, firstPush)
    this.#listener?.onBootList(bootList, firstPush)
    this.onPending()
  }
}

/** Sends what is asked for and pushed, demand first, a few objects each turn of the event loop. */
export class HonestTransport extends FakeObjectTransport {
  readonly #objectsPerTurn: number
  #isSending = false

  constructor(version: MemoryVersion, options: FakeTransportOptions = {}, objectsPerTurn = 8) {
    super(version, options)
    this.#objectsPerTurn = objectsPerTurn
  }

  protected override onPending(): void {
    if (this.#isSending) return
    this.#isSending = true
    setImmediate(() => {
      this.#isSending = false
      for (let count = 0; count < this.#objectsPerTurn && this.pending.length > 0; count += 1) {
        this.answer(this.next())
      }
      if (this.pending.length > 0) this.onPending()
    })
  }
}
