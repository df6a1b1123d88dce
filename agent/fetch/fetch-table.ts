/** All objects that are wanted and not here, by name, and those to be asked for in their order. */
import { PRIORITY, type Priority } from '#shared/wire/frame.ts'
import { type ObjectFetch, objectKey } from './object-fetch.ts'

export class FetchTable {
  readonly #fetches = new Map<number, ObjectFetch>()
  /** One for each priority; what was asked for or given up meanwhile is passed over. */
  readonly #queues: Readonly<Record<Priority, ObjectFetch[]>> = {
    [PRIORITY.demand]: [],
    [PRIORITY.prefetch]: [],
    [PRIORITY.hydration]: [],
  }

  get size(): number {
    return this.#fetches.size
  }

  get(level: number, position: number): ObjectFetch | undefined {
    return this.#fetches.get(objectKey(level, position))
  }

  has(fetch: ObjectFetch): boolean {
    return this.get(fetch.level, fetch.position) === fetch
  }

  add(fetch: ObjectFetch): void {
    this.#fetches.set(objectKey(fetch.level, fetch.position), fetch)
  }

  /** Ends its timer, too. */
  remove(fetch: ObjectFetch): void {
    stopTimer(fetch)
    if (this.has(fetch)) this.#fetches.delete(objectKey(fetch.level, fetch.position))
  }

  /** In the order they were added: nodes before what is below them. */
  values(): IterableIterator<ObjectFetch> {
    return this.#fetches.values()
  }

  /** Ends its timer, too. */
  enqueue(fetch: ObjectFetch, want: Priority): void {
    stopTimer(fetch)
    fetch.state = 'queued'
    fetch.want = want
    this.#queues[want].push(fetch)
  }

  /** The next to be asked for. */
  first(priority: Priority): ObjectFetch | undefined {
    const queue = this.#queues[priority]
    for (;;) {
      const [fetch] = queue
      if (fetch === undefined || this.#isQueued(fetch, priority)) return fetch
      queue.shift()
    }
  }

  shift(priority: Priority): void {
    this.#queues[priority].shift()
  }

  queueLength(priority: Priority): number {
    return this.#queues[priority].length
  }

  #isQueued(fetch: ObjectFetch, priority: Priority): boolean {
    return fetch.state === 'queued' && fetch.want === priority && this.has(fetch)
  }
}

function stopTimer(fetch: ObjectFetch): void {
  clearTimeout(fetch.timer)
  delete fetch.timer
}
