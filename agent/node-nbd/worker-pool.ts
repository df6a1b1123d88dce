/**
 * Worker threads of one kind. Some are kept ready, since a thread takes tens of milliseconds to
 * start and to load its code.
 */
import { WorkerThread } from './worker-thread.ts'

export class WorkerPool {
  readonly #file: string | URL
  readonly #spareMax: number
  readonly #spare: WorkerThread[] = []
  #closed = false

  constructor(file: string | URL, spareMax: number) {
    this.#file = file
    this.#spareMax = spareMax
  }

  /** Starts spare threads, as many as are kept; each does `warmUp` first. */
  async prepare(warmUp: unknown): Promise<void> {
    const threads = Array.from({ length: this.#spareMax }, () => new WorkerThread(this.#file))
    await Promise.all(threads.map((thread) => thread.run(warmUp)))
    await Promise.all(threads.map((thread) => this.#keep(thread)))
  }

  /** Runs the task on a thread of its own. */
  async run(task: unknown): Promise<unknown> {
    const thread = this.#spare.pop() ?? new WorkerThread(this.#file)
    try {
      return await thread.run(task)
    } finally {
      await this.#keep(thread)
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#spare.splice(0).map((thread) => thread.close()))
  }

  async #keep(thread: WorkerThread): Promise<void> {
    if (thread.lost) return
    if (this.#closed || this.#spare.length >= this.#spareMax) await thread.close()
    else this.#spare.push(thread)
  }
}
