/** The worker threads of one import, and the batches they have not answered yet. */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { invariant } from '#shared/invariant.ts'
import type { EncodeAnswer, EncodedBatch, EncodeRequest } from './chunk-encoder-worker.ts'

/** More than this outruns any disk; the clients' streams want cores, too. */
const WORKERS_MAX = 4

type Waiter = PromiseWithResolvers<EncodedBatch>

export class ChunkEncoderPool {
  readonly #workers: Worker[] = []
  readonly #waiters = new Map<number, Waiter>()
  #nextBatchId = 0

  constructor(workerCount = Math.min(availableParallelism(), WORKERS_MAX)) {
    for (let count = 0; count < workerCount; count += 1) this.#workers.push(this.#startWorker())
  }

  get workerCount(): number {
    return this.#workers.length
  }

  /** Encodes a batch; its memory is given away. Rejects when the pool is closed meanwhile. */
  encode(bytes: Uint8Array<ArrayBuffer>, chunkBytes: number): Promise<EncodedBatch> {
    const batchId = this.#nextBatchId
    this.#nextBatchId += 1
    const waiter = Promise.withResolvers<EncodedBatch>()
    this.#waiters.set(batchId, waiter)
    const worker = this.#workers[batchId % this.#workers.length]
    invariant(worker !== undefined, 'a closed pool encodes nothing')
    const request: EncodeRequest = { batchId, bytes, chunkBytes }
    worker.postMessage(request, [bytes.buffer])
    return waiter.promise
  }

  async close(): Promise<void> {
    const workers = this.#workers.splice(0)
    this.#rejectAll(new Error('The encoder was closed'))
    await Promise.all(workers.map((worker) => worker.terminate()))
  }

  #startWorker(): Worker {
    const worker = new Worker(new URL('./chunk-encoder-worker.ts', import.meta.url))
    worker.on('message', ({ batchId, batch }: EncodeAnswer) => {
      this.#waiters.get(batchId)?.resolve(batch)
      this.#waiters.delete(batchId)
    })
    worker.on('error', (error) => this.#rejectAll(error))
    return worker
  }

  #rejectAll(error: unknown): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error)
    this.#waiters.clear()
  }
}
