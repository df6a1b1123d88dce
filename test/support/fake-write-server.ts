/** A server that keeps what a client writes, in memory, on a connection that may be lost at any moment. */
import type { WriteListener, WriteTransport } from '#agent/block/write-transport.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import {
  type ReadBack,
  WRITE_KIND,
  type WriteRecord,
  type WriteRun,
} from '#shared/wire/write-frames.ts'

type Job =
  | { readonly kind: 'write'; readonly sequence: number; readonly records: WriteRecord[] }
  | ({ readonly kind: 'read' } & ReadBack)

export class FakeWriteServer implements WriteTransport {
  /** Undefined is zeros. */
  readonly blocks = new Map<number, Buffer | undefined>()
  /** Answers by itself. */
  isPrompt = true
  quotaBytes = 1e9
  readonly #jobs: Job[] = []
  #listener: WriteListener | undefined
  #isOpen = true
  #lastSequence = 0

  listenWrites(listener: WriteListener): void {
    this.#listener = listener
    if (this.#isOpen) listener.onOpen(this.roomBytes)
  }

  get roomBytes(): number {
    const used = [...this.blocks.values()].filter((it) => it !== undefined).length
    return Math.max(0, this.quotaBytes - used * BLOCK_BYTES)
  }

  get pending(): number {
    return this.#jobs.length
  }

  write(sequence: number, records: readonly WriteRecord[]): void {
    if (!this.#isOpen) return
    if (sequence !== this.#lastSequence + 1) throw new Error(`write ${sequence} is out of order`)
    this.#lastSequence = sequence
    const own = records.map((it) => ({ ...it, bytes: Uint8Array.from(it.bytes) }))
    this.#add({ kind: 'write', sequence, records: own })
  }

  readBack(wanted: ReadBack): void {
    if (this.#isOpen) this.#add({ kind: 'read', ...wanted })
  }

  /** What was sent and not answered: the first `applied` of it had arrived. */
  lose(applied = 0): void {
    this.#isOpen = false
    for (const job of this.#jobs.splice(0).slice(0, applied)) {
      if (job.kind === 'write') this.#apply(job.records)
    }
    this.#listener?.onLost()
  }

  open(): void {
    this.#isOpen = true
    this.#lastSequence = 0
    this.#listener?.onOpen(this.roomBytes)
  }

  answer(): void {
    const job = this.#jobs.shift()
    if (job === undefined) return
    if (job.kind === 'write') {
      this.#apply(job.records)
      const { roomBytes } = this
      this.#listener?.onWritten({ sequence: job.sequence, roomBytes })
      return
    }
    const parts = Array.from({ length: job.blocks }, (_, at) =>
      this.blocks.get(job.firstBlock + at),
    )
    const isThere = parts.every((it) => it !== undefined)
    const bytes = isThere ? Buffer.concat(parts) : new Uint8Array(0)
    this.#listener?.onBlocks({ id: job.id, bytes })
  }

  runs(): WriteRun[] {
    return [...this.blocks].map(([firstBlock, bytes]) => ({
      firstBlock,
      blocks: 1,
      kind: bytes === undefined ? WRITE_KIND.zero : WRITE_KIND.data,
    }))
  }

  #add(job: Job): void {
    this.#jobs.push(job)
    if (this.isPrompt) setImmediate(() => this.answer())
  }

  #apply(records: readonly WriteRecord[]): void {
    for (const { kind, firstBlock, blocks, bytes } of records) {
      for (let at = 0; at < blocks; at += 1) {
        const part = Buffer.from(bytes.subarray(at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES))
        this.blocks.set(firstBlock + at, kind === WRITE_KIND.data ? part : undefined)
      }
    }
  }
}
