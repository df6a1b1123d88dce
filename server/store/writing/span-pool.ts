/**
 * The store's worker threads and what they have in hand. All imports share them, so that what is in
 * memory is bounded however many run: two spans for each worker, 32 MiB and what they come to.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { invariant } from '#shared/invariant.ts'
import { BLOCK_BYTES, SPAN_BLOCKS } from '#shared/manifest/tree-shape.ts'
import { CHUNK_HEADER_BYTES, RECORD_BYTES_MAX } from '../packs/pack-format.ts'
import type {
  CutAnswer,
  CutRequest,
  FailedAnswer,
  ProveAnswer,
  ProveRequest,
  StoreAnswer,
  StoreRequest,
  WorkerAnswer,
  WorkerRequest,
} from './span-worker-messages.ts'

export const SPAN_BYTES: number = SPAN_BLOCKS * BLOCK_BYTES

/** A span of chunks that nothing saves a byte of, each of one block, and room to try the last. */
export const RECORDS_BYTES_MAX: number =
  SPAN_BYTES + SPAN_BLOCKS * CHUNK_HEADER_BYTES + RECORD_BYTES_MAX

/** More than this outruns any disk; the clients' streams want cores, too. */
const WORKERS_MAX = 4

/** A worker has one in hand and one to go on with. */
const JOBS_PER_WORKER = 2

interface PoolWorker {
  readonly thread: Worker
  jobs: number
}

type Waiter = PromiseWithResolvers<WorkerAnswer>

/** A span in the hands of a worker. */
export interface SpanJob {
  cut(memory: SharedArrayBuffer, lengthBytes: number): Promise<CutAnswer>
  store(request: Omit<StoreRequest, 'kind' | 'jobId' | 'recordMemory'>): Promise<StoreAnswer>
  /** Lets the next job begin; when everything of this one is written, or it failed. */
  end(): void
}

export class SpanPool {
  readonly #workers: PoolWorker[] = []
  readonly #waiters = new Map<number, Waiter>()
  readonly #queue: (() => void)[] = []
  /** Memory of spans and of records, to be used again: making it anew is what costs. */
  readonly #spanMemory: SharedArrayBuffer[] = []
  readonly #recordMemory: SharedArrayBuffer[] = []
  #nextJobId = 0
  readonly #workersMax: number
  #closed = false

  /** Workers are started when there is work for one more. */
  constructor(workersMax: number = Math.min(availableParallelism(), WORKERS_MAX)) {
    this.#workersMax = workersMax
  }

  /** Jobs that can be under way at once. */
  get jobsMax(): number {
    return this.#workersMax * JOBS_PER_WORKER
  }

  /** Waits for a worker that may take another job; first come, first served. */
  async begin(): Promise<SpanJob> {
    let worker = this.#idlest()
    if (worker.jobs === JOBS_PER_WORKER) {
      const turn = Promise.withResolvers<void>()
      this.#queue.push(turn.resolve)
      await turn.promise
      worker = this.#idlest()
    }
    return this.#job(worker)
  }

  /** Reads and proves chunks of a pack; the caller bounds how many it asks for at once. */
  async prove(packPath: string, entries: Uint8Array): Promise<ProveAnswer> {
    const worker = this.#idlest()
    worker.jobs += 1
    try {
      const request: ProveRequest = { kind: 'prove', jobId: this.#newJobId(), packPath, entries }
      return (await this.#ask(worker, request)) as ProveAnswer
    } finally {
      worker.jobs -= 1
    }
  }

  /** Memory for a span; its content is whatever it was. */
  takeMemory(): SharedArrayBuffer {
    return this.#spanMemory.pop() ?? new SharedArrayBuffer(SPAN_BYTES)
  }

  giveMemory(memory: SharedArrayBuffer): void {
    if (this.#spanMemory.length < this.jobsMax) this.#spanMemory.push(memory)
  }

  /** Takes an answer's memory back, when its records are written. */
  giveRecords({ records }: StoreAnswer): void {
    if (this.#recordMemory.length < this.jobsMax) this.#recordMemory.push(records.buffer)
  }

  async close(): Promise<void> {
    this.#closed = true
    const workers = this.#workers.splice(0)
    this.#rejectAll(new Error('The store was closed'))
    for (const next of this.#queue.splice(0)) next()
    await Promise.all(workers.map(({ thread }) => thread.terminate()))
  }

  #job(worker: PoolWorker): SpanJob {
    const jobId = this.#newJobId()
    worker.jobs += 1
    let isOver = false
    return {
      cut: async (memory, lengthBytes) => {
        const request: CutRequest = { kind: 'cut', jobId, memory, lengthBytes }
        return (await this.#ask(worker, request)) as CutAnswer
      },
      store: async (fates) => {
        const recordMemory = this.#recordMemory.pop() ?? new SharedArrayBuffer(RECORDS_BYTES_MAX)
        const request: StoreRequest = { kind: 'store', jobId, ...fates, recordMemory }
        return (await this.#ask(worker, request)) as StoreAnswer
      },
      end: () => {
        if (isOver) return
        isOver = true
        worker.jobs -= 1
        this.#queue.shift()?.()
      },
    }
  }

  /** The worker with the least to do; a new one, when all have something and there may be more. */
  #idlest(): PoolWorker {
    invariant(!this.#closed, 'a closed pool takes no work')
    const [first] = this.#workers.toSorted((a, b) => a.jobs - b.jobs)
    if (first !== undefined && (first.jobs === 0 || this.#workers.length === this.#workersMax)) {
      return first
    }
    const worker = { thread: this.#startThread(), jobs: 0 }
    this.#workers.push(worker)
    return worker
  }

  #newJobId(): number {
    this.#nextJobId += 1
    return this.#nextJobId
  }

  async #ask(worker: PoolWorker, request: WorkerRequest): Promise<WorkerAnswer> {
    if (this.#closed) throw new Error('The store was closed')
    const waiter = Promise.withResolvers<WorkerAnswer>()
    this.#waiters.set(request.jobId, waiter)
    worker.thread.postMessage(request)
    const answer = await waiter.promise
    if (answer.kind === 'failed') throw new Error((answer satisfies FailedAnswer).message)
    return answer
  }

  #startThread(): Worker {
    const thread = new Worker(new URL('./span-worker.ts', import.meta.url))
    thread.on('message', (answer: WorkerAnswer) => {
      this.#waiters.get(answer.jobId)?.resolve(answer)
      this.#waiters.delete(answer.jobId)
    })
    thread.on('error', (error) => this.#rejectAll(error))
    return thread
  }

  #rejectAll(error: unknown): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error)
    this.#waiters.clear()
  }
}
