/**
 * A worker's side of WorkerThread: does one task after the other, each of them blocking, and reports
 * the end of each.
 */
import { parentPort } from 'node:worker_threads'

export type TaskReport =
  | { readonly kind: 'done'; readonly result: unknown }
  | { readonly kind: 'failed'; readonly error: unknown }

/** Takes over the worker: from now on `work` is called with each task sent to it. */
export function serveTasks(work: (task: unknown) => unknown): void {
  const port = parentPort
  if (port === null) throw new Error('Cannot serve tasks: this is the main thread')
  port.on('message', (task: unknown) => {
    void report(task, work).then((it) => port.postMessage(it))
  })
}

async function report(task: unknown, work: (task: unknown) => unknown): Promise<TaskReport> {
  try {
    return { kind: 'done', result: await work(task) }
  } catch (error) {
    return { kind: 'failed', error }
  }
}
