/**
 * Asks the server for what is wanted, the most urgent first; of what nobody waits for no more than the
 * path bears.
 */
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import { CHUNK_LEVEL, PRIORITY, type Priority } from '#shared/wire/frame.ts'
import type { ObjectFetch } from './object-fetch.ts'
import type { ObjectFetches } from './object-fetches.ts'
import type { PathLoad } from './path-load.ts'
import type { RequestBook } from './request-book.ts'

/** What an object takes of the window, before it is known: chunks shrink to 0.35, a leaf has 15 KB. */
const USUAL_SHRINKING = 0.35
const USUAL_NODE_BYTES = 15_000

export interface PumpParts {
  readonly fetches: ObjectFetches
  readonly book: RequestBook
  readonly load: PathLoad
  /** What is asked for now would find no room. */
  readonly isHeldUp: () => boolean
  /** Has pushed what is foreseen: more urgent than hydration, less than what somebody read already. */
  readonly advanceBoot: (nowMs: number) => void
}

export class Pump {
  readonly #parts: PumpParts
  #isOpen = false
  #isClosed = false
  #isRunning = false

  constructor(parts: PumpParts) {
    this.#parts = parts
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  open(): void {
    this.#isOpen = !this.#isClosed
  }

  lost(): void {
    this.#isOpen = false
  }

  close(): void {
    this.#isClosed = true
    this.#isOpen = false
  }

  /** Asks for as much as may be on its way. Also without a server: a boot reads from the local disk. */
  run(): void {
    const { book, isHeldUp, advanceBoot } = this.#parts
    // Who is told of something may ask for more.
    if (this.#isClosed || this.#isRunning || isHeldUp()) return
    this.#isRunning = true
    const nowMs = performance.now()
    this.#ask(PRIORITY.demand, nowMs)
    this.#ask(PRIORITY.prefetch, nowMs)
    book.flush()
    advanceBoot(nowMs)
    this.#ask(PRIORITY.prefetch, nowMs)
    this.#ask(PRIORITY.hydration, nowMs)
    book.flush()
    this.#isRunning = false
  }

  #ask(priority: Priority, nowMs: number): void {
    const { fetches, book, load } = this.#parts
    while (this.#isOpen && book.mayAsk(priority)) {
      const fetch = fetches.next(priority)
      if (fetch === undefined) return
      const usualBytes = usualBytesOf(fetch)
      if (priority !== PRIORITY.demand && !load.hasRoom(usualBytes, nowMs)) return
      fetches.asked(fetch, priority, nowMs)
      const isSpeculative = fetch.level === CHUNK_LEVEL && fetch.place === undefined
      book.ask(fetch, priority, { nowMs, usualBytes, isSpeculative })
    }
  }
}

function usualBytesOf({ place }: ObjectFetch): number {
  if (place === undefined) return USUAL_NODE_BYTES
  return Math.ceil(place.blocks * BLOCK_BYTES * USUAL_SHRINKING)
}
