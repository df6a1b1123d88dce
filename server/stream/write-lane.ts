/**
 * What a session's client writes to the server and wants back: one frame after the other, in the order in
 * which they came, and made durable together. Nothing is opened before the first of them.
 */

import { namingFullFolder } from '#server/store/store-full.ts'
import type { OpenWrites, WriteStore, WritesKey } from '#server/write-cache/write-store.ts'
import { BootwireError } from '#shared/errors.ts'
import { BLOCK_BYTES } from '#shared/manifest/tree-shape.ts'
import {
  READS_BACK_IN_FLIGHT_MAX,
  WRITE_RUNS_MAX,
  WRITES_IN_FLIGHT_BYTES_MAX,
} from '#shared/wire/limits.ts'
import {
  decodeReadBack,
  decodeWrite,
  encodeBlocks,
  encodeWriteMap,
  encodeWritten,
  FRAME_WRITE,
  type ReadBack,
  WRITE_KIND,
  type WriteRecord,
  type WriteRun,
} from '#shared/wire/write-frames.ts'

export interface WriteLaneOptions {
  readonly store: Pick<WriteStore, 'open' | 'forgetBoots'>
  readonly key: WritesKey
  readonly send: (frame: Uint8Array) => void
  readonly onError: (error: unknown) => void
}

type Job =
  | { readonly kind: 'write'; readonly sequence: number; readonly records: WriteRecord[] }
  | ({ readonly kind: 'read' } & ReadBack)

/** Made durable together at most: a disk takes this in a few milliseconds. */
const COMMIT_BYTES = WRITES_IN_FLIGHT_BYTES_MAX / 2

const NOTHING = new Uint8Array(0)

export class WriteLane {
  readonly #options: WriteLaneOptions
  #opened: Promise<OpenWrites> | undefined
  readonly #jobs: Job[] = []
  #queuedBytes = 0
  #queuedReads = 0
  #uncommittedBytes = 0
  #lastSequence = 0
  #isRunning = false
  #isClosed = false

  constructor(options: WriteLaneOptions) {
    this.#options = options
  }

  /** How much may be written, and what was in earlier boots. @throws as `WriteStore.open` */
  async open(): Promise<{ readonly roomBytes: number; readonly runs: readonly WriteRun[] }> {
    const opened = await this.#open()
    const runs: WriteRun[] = []
    for await (const { firstBlock, blocks, state } of opened.writes.runs()) {
      const kind = state === 1 ? WRITE_KIND.data : WRITE_KIND.zero
      runs.push({ firstBlock, blocks, kind })
    }
    return { roomBytes: await opened.roomBytes(), runs }
  }

  /** @throws {BootwireError} MESSAGE_INVALID, LIMIT_EXCEEDED */
  take(frame: Uint8Array): void {
    if (frame[0] === FRAME_WRITE) this.#takeWrite(frame)
    else this.#takeRead(decodeReadBack(frame))
    if (!this.#isRunning) void this.#run()
  }

  /** What was not made durable is not told to be. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#jobs.length = 0
    const opened = await this.#opened?.catch(() => undefined)
    while (this.#isRunning) await new Promise((resolve) => setImmediate(resolve))
    await opened?.close()
  }

  #takeWrite(frame: Uint8Array): void {
    const { sequence, records } = decodeWrite(frame)
    if (sequence <= this.#lastSequence) throw invalid(`write ${sequence} comes twice`)
    this.#lastSequence = sequence
    this.#queuedBytes += bytesOf(records)
    if (this.#queuedBytes + this.#uncommittedBytes > 2 * WRITES_IN_FLIGHT_BYTES_MAX) {
      throw new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot take another write: ${WRITES_IN_FLIGHT_BYTES_MAX} bytes may be on their way`,
      )
    }
    for (const { firstBlock, blocks } of records) this.#checkRange(firstBlock, blocks)
    // The frame is somebody else's memory after this.
    const own = records.map((record) => ({ ...record, bytes: Uint8Array.from(record.bytes) }))
    this.#jobs.push({ kind: 'write', sequence, records: own })
  }

  #takeRead(wanted: ReadBack): void {
    this.#checkRange(wanted.firstBlock, wanted.blocks)
    this.#queuedReads += 1
    if (this.#queuedReads > READS_BACK_IN_FLIGHT_MAX) {
      throw new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot read more back: ${READS_BACK_IN_FLIGHT_MAX} reads wait already`,
      )
    }
    this.#jobs.push({ kind: 'read', ...wanted })
  }

  #checkRange(firstBlock: number, blocks: number): void {
    const end = Math.ceil(this.#options.key.sizeBytes / BLOCK_BYTES)
    if (firstBlock + blocks > end) throw invalid(`blocks ${firstBlock}+${blocks} of ${end}`)
  }

  #open(): Promise<OpenWrites> {
    this.#opened ??= this.#openNow()
    return this.#opened
  }

  async #openNow(): Promise<OpenWrites> {
    const { store, key } = this.#options
    await store.forgetBoots(key.clientId, key.bootId)
    return await store.open(key)
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    try {
      const opened = await this.#open()
      for (let job = this.#jobs.shift(); job !== undefined; job = this.#jobs.shift()) {
        if (job.kind === 'read') await this.#readBack(opened, job)
        else await this.#write(opened, job)
        if (this.#isClosed) return
      }
    } catch (error) {
      if (!this.#isClosed) this.#options.onError(error)
    } finally {
      this.#isRunning = false
    }
  }

  async #write(
    opened: OpenWrites,
    { sequence, records }: Extract<Job, { kind: 'write' }>,
  ): Promise<void> {
    const { writes } = opened
    const bytes = bytesOf(records)
    const isLast = !this.#jobs.some(({ kind }) => kind === 'write')
    await namingFullFolder('writes', async () => {
      for (const { kind, firstBlock, blocks, bytes } of records) {
        if (kind === WRITE_KIND.data) await writes.write(firstBlock, bytes)
        else await writes.zero(firstBlock, blocks)
      }
      this.#queuedBytes -= bytes
      this.#uncommittedBytes += bytes
      if (isLast || this.#uncommittedBytes >= COMMIT_BYTES) {
        await writes.sync()
        this.#uncommittedBytes = 0
        const roomBytes = await opened.roomBytes()
        if (!this.#isClosed) this.#options.send(encodeWritten({ sequence, roomBytes }))
      }
    })
  }

  async #readBack(opened: OpenWrites, { id, firstBlock, blocks }: ReadBack): Promise<void> {
    const bytes = new Uint8Array(blocks * BLOCK_BYTES)
    const isThere = await opened.writes.read(firstBlock, bytes)
    this.#queuedReads -= 1
    if (!this.#isClosed) this.#options.send(encodeBlocks({ id, bytes: isThere ? bytes : NOTHING }))
  }
}

/** The frames of the map, as many as it takes. */
export function writeMapFrames(runs: readonly WriteRun[]): Uint8Array[] {
  const frames: Uint8Array[] = []
  for (let at = 0; at < runs.length; at += WRITE_RUNS_MAX) {
    frames.push(encodeWriteMap(runs.slice(at, at + WRITE_RUNS_MAX)))
  }
  return frames
}

function bytesOf(records: readonly WriteRecord[]): number {
  return records.reduce((sum, { bytes }) => sum + bytes.length, 0)
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot use the agent's message: ${why}`)
}
