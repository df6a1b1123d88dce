/** A worker thread that does one task at a time and can be used for the next one after it. */
import { Worker } from 'node:worker_threads'
import type { TaskReport } from './worker-task.ts'

export class WorkerThread {
  readonly #worker: Worker
  #settle: ((report: TaskReport) => void) | undefined
  #lost: Error | undefined

  /** `file` is a path or a file: URL. */
  constructor(file: string | URL) {
    this.#worker = new Worker(workerFile(file))
    this.#worker.unref()
    this.#worker.on('message', (report: TaskReport) => this.#end(report))
    this.#worker.on('error', (error) => this.#lose(error))
    this.#worker.on('exit', (code) => this.#lose(new Error(`a worker thread ended with ${code}`)))
  }

  /** Whether it can take no more tasks. */
  get lost(): boolean {
    return this.#lost !== undefined
  }

  /** Keeps the process alive until the task is done. Rejects with what the task threw. */
  async run(task: unknown): Promise<unknown> {
    if (this.#lost !== undefined) throw this.#lost
    const reported = new Promise<TaskReport>((settle) => {
      this.#settle = settle
    })
    this.#worker.ref()
    this.#worker.postMessage(task)
    const report = await reported
    this.#worker.unref()
    if (report.kind === 'failed') throw report.error
    return report.result
  }

  /** Ends the thread; waits for what it does at the moment. */
  async close(): Promise<void> {
    await this.#worker.terminate()
  }

  #end(report: TaskReport): void {
    this.#settle?.(report)
    this.#settle = undefined
  }

  #lose(error: unknown): void {
    this.#lost ??= error instanceof Error ? error : new Error(String(error))
    this.#end({ kind: 'failed', error: this.#lost })
  }
}

function workerFile(file: string | URL): string | URL {
  return typeof file === 'string' && file.startsWith('file:') ? new URL(file) : file
}
