/**
 * Frees what no version holds any more: in the background after something was removed, or when asked.
 * One run at a time; what is asked for during a run is done by one more after it.
 */
import type { Log } from '#server/log.ts'
import type { ChunkStore, GarbageReport } from '#server/store/chunk-store.ts'
import { formatBytes } from '#shared/units.ts'

export class GarbageCollector {
  readonly #store: Pick<ChunkStore, 'collectGarbage'>
  readonly #log: Log
  readonly #closing = new AbortController()
  #last: Promise<unknown> = Promise.resolve()
  #isScheduled = false

  constructor(store: Pick<ChunkStore, 'collectGarbage'>, log: Log) {
    this.#store = store
    this.#log = log
  }

  /** Collects after whatever runs now; failures are logged, nobody waits for them. */
  schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    this.#enqueue(async () => {
      this.#isScheduled = false
      await this.#collect(this.#closing.signal)
    }).catch((error: unknown) => {
      if (!this.#closing.signal.aborted) this.#log.error({ err: error }, 'cannot free space')
    })
  }

  /** Collects, and tells what came of it. */
  run(signal: AbortSignal): Promise<GarbageReport> {
    return this.#enqueue(() => this.#collect(AbortSignal.any([signal, this.#closing.signal])))
  }

  /** Settles when nothing is being freed and nothing waits to be. */
  async idle(): Promise<void> {
    for (let last: unknown; last !== this.#last; ) {
      last = this.#last
      await this.#last
    }
  }

  /** Ends what runs; what it leaves, the next run frees. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('the server stops'))
    await this.idle()
  }

  #enqueue<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined) // whoever asked is told; the queue goes on
    return result
  }

  async #collect(signal: AbortSignal): Promise<GarbageReport> {
    signal.throwIfAborted()
    const report = await this.#store.collectGarbage(signal)
    const { removedChunks, removedBytes } = report
    if (removedChunks > 0) {
      this.#log.info({ removedChunks }, `freed ${formatBytes(removedBytes)} in the store`)
    }
    return report
  }
}
