/** A worker thread of the store: encodes spans of imports, and proves stored chunks for `check`. */
import { parentPort } from 'node:worker_threads'
import { ChunkDecoder } from '#shared/chunk/chunk-decoder.ts'
import { invariant } from '#shared/invariant.ts'
import { contentHash } from '#shared/manifest/content-hash.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'
import { IndexEntries, type IndexEntry, isSameChunk } from '../packs/pack-format.ts'
import { PackWindow } from './pack-window.ts'
import { type CutSpan, cutAndHash, SpanEncoder } from './span-encoder.ts'
import type {
  CutRequest,
  PackReading,
  ProveRequest,
  StoreRequest,
  WorkerAnswer,
  WorkerRequest,
} from './span-worker-messages.ts'

interface OpenSpan {
  readonly bytes: Uint8Array
  readonly cut: CutSpan
}

const port = parentPort
invariant(port !== null, 'a worker has a parent')
const packWindow = new PackWindow()
const encoder = new SpanEncoder(packWindow)
const decoder = new ChunkDecoder()
const decoded = new Uint8Array(CHUNK_BYTES_MAX)
const spans = new Map<number, OpenSpan>()

port.on('message', (request: WorkerRequest) => {
  try {
    handle(request)
  } catch (error) {
    spans.delete(request.jobId)
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
    answer({ kind: 'failed', jobId: request.jobId, message })
  } finally {
    packWindow.close()
  }
})

function handle(request: WorkerRequest): void {
  if (request.kind === 'cut') cut(request)
  else if (request.kind === 'store') store(request)
  else prove(request)
}

function cut({ jobId, memory, lengthBytes }: CutRequest): void {
  const bytes = new Uint8Array(memory, 0, lengthBytes)
  const done = cutAndHash(bytes)
  spans.set(jobId, { bytes, cut: done })
  answer({ kind: 'cut', jobId, ...done })
}

function store(request: StoreRequest): void {
  const { jobId } = request
  const span = spans.get(jobId)
  invariant(span !== undefined, `span ${jobId} was cut`)
  spans.delete(jobId)
  answer({ kind: 'store', jobId, ...encoder.store(span.bytes, span.cut, request) })
}

function prove({ jobId, packPath, entries: bytes }: ProveRequest): void {
  const damaged: { offset: number; why: string }[] = []
  const entries = IndexEntries.of(bytes)
  for (let index = 0; index < entries.count; index += 1) {
    const entry = entries.get(index)
    const why = fault(readChunk(packPath, entry.offset), entry)
    if (why !== undefined) damaged.push({ offset: entry.offset, why })
  }
  answer({ kind: 'prove', jobId, damaged })
}

function readChunk(path: string, offset: number): PackReading {
  try {
    return packWindow.read(path, offset)
  } catch (error) {
    return { kind: 'damaged', why: error instanceof Error ? error.message : String(error) }
  }
}

function fault(reading: PackReading, entry: IndexEntry): string | undefined {
  if (reading.kind === 'damaged') return reading.why
  const { chunk, stored } = reading
  if (!isSameChunk(chunk, entry)) return 'it is not the chunk that the index has there'
  try {
    decoder.decode(chunk, stored, decoded, 0)
  } catch {
    return 'it cannot be decoded'
  }
  const hash = contentHash(decoded.subarray(0, chunk.rawBytes))
  return Buffer.compare(hash, chunk.hash) === 0 ? undefined : 'its hash is another'
}

function answer(message: WorkerAnswer): void {
  port?.postMessage(message)
}
