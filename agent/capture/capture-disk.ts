/**
 * Sends this machine's disk to the server, to become a vDisk: waits for an operator, sends what the server does
 * not have, and waits until it is one. A server that is away for a while is waited for.
 */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { constants, zstdCompress } from 'node:zlib'
import type { ServerAddress } from '#shared/boot/kernel-cmdline.ts'
import {
  type CaptureStatus,
  HASH_BYTES,
  SEGMENT_BYTES,
  segmentCount,
} from '#shared/capture/capture-protocol.ts'
import { BootwireError } from '#shared/errors.ts'
import type { Pins } from '#shared/identity/key-pin.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import { CaptureClient } from './capture-client.ts'
import { CapturedSource } from './captured-source.ts'

export interface CaptureOptions {
  /** `/dev/sda`. */
  readonly path: string
  readonly servers: readonly ServerAddress[]
  readonly pin: Pins
  readonly facts: MachineFacts
  readonly onProgress: (progress: CaptureProgress) => void
  readonly signal: AbortSignal
  /** Only given by tests. */
  readonly pauseMs?: number
}

export interface CaptureProgress {
  readonly stage: 'waiting' | 'sending' | 'importing' | 'done'
  /** For a person. */
  readonly note: string
  /** To be told to the operator. */
  readonly code: string
  readonly doneBytes: number
  readonly totalBytes: number
  /** What went over the network. */
  readonly sentBytes: number
}

/** Between two questions of what an operator or the server does. */
const PAUSE_MS = 2_000

const pack = promisify(zstdCompress)

/** The fastest: a network of 1 Gbit/s should be the limit, not this machine. */
const PACKING = { params: { [constants.ZSTD_c_compressionLevel]: 1 } }

interface Segment {
  readonly packed: Buffer
  readonly hash: string
}

/**
 * Returns what the server made of it.
 * @throws {BootwireError} CAPTURE_IMPOSSIBLE, CAPTURE_REFUSED, SERVER_UNREACHABLE when none answers at first;
 *   KEY_MISMATCH
 */
export async function captureDisk(options: CaptureOptions): Promise<string> {
  await using source = await CapturedSource.open(options.path)
  const { client, code } = await begin(options, source)
  using _ = client
  return await new CaptureRun(options, { source, client, code }).run()
}

/** The first server that answers. */
async function begin(
  { servers, pin, facts, signal }: CaptureOptions,
  { name, sizeBytes }: CapturedSource,
): Promise<{ readonly client: CaptureClient; readonly code: string }> {
  let failure = new BootwireError('SERVER_UNREACHABLE', 'Cannot capture: no server is named')
  for (const server of servers) {
    const client = new CaptureClient(server, pin, signal)
    try {
      return { client, code: await client.begin({ facts, disk: { name, sizeBytes } }) }
    } catch (error) {
      client[Symbol.dispose]()
      signal.throwIfAborted()
      if (!(error instanceof BootwireError)) throw error
      failure = error
    }
  }
  throw failure
}

class CaptureRun {
  readonly #options: CaptureOptions
  readonly #source: CapturedSource
  readonly #client: CaptureClient
  readonly #code: string
  #sentBytes = 0

  constructor(
    options: CaptureOptions,
    parts: {
      readonly source: CapturedSource
      readonly client: CaptureClient
      readonly code: string
    },
  ) {
    this.#options = options
    this.#source = parts.source
    this.#client = parts.client
    this.#code = parts.code
  }

  async run(): Promise<string> {
    await this.#until('waiting', ({ state }) => state !== 'waiting')
    const hash = await this.#sendAll()
    await this.#patiently(() => this.#client.finish(hash))
    const { note } = await this.#until('importing', ({ state }) => state !== 'importing')
    this.#tell('done', note, this.#source.sizeBytes)
    return note
  }

  /** Returns the hash of all hashes. */
  async #sendAll(): Promise<string> {
    const had = await this.#patiently(() => this.#client.hashes())
    const all = createHash('sha256')
    const count = segmentCount(this.#source.sizeBytes)
    // The next one is read and packed while one is sent.
    let next = this.#prepare(0, had)
    for (let index = 0; index < count; index += 1) {
      const segment = await next
      next = index + 1 < count ? this.#prepare(index + 1, had) : next
      next.catch(() => undefined) // thrown when it is waited for
      all.update(segment.hash, 'hex')
      if (segment.packed.length > 0) {
        await this.#patiently(() => this.#client.send(index, segment.packed, segment.hash))
        this.#sentBytes += segment.packed.length
      }
      const doneBytes = Math.min((index + 1) * SEGMENT_BYTES, this.#source.sizeBytes)
      this.#tell('sending', '', doneBytes)
    }
    return all.digest('hex')
  }

  /** Nothing is packed of a segment that the server has. */
  async #prepare(index: number, had: Buffer): Promise<Segment> {
    const bytes = await this.#source.read(index)
    const hash = createHash('sha256').update(bytes).digest()
    const isThere = hash.equals(had.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES))
    const packed = isThere ? Buffer.alloc(0) : await pack(bytes, PACKING)
    return { packed, hash: hash.toString('hex') }
  }

  /** @throws {BootwireError} CAPTURE_REFUSED when it failed on the server */
  async #until(
    stage: CaptureProgress['stage'],
    isOver: (status: CaptureStatus) => boolean,
  ): Promise<CaptureStatus> {
    for (;;) {
      const status = await this.#patiently(() => this.#client.status())
      if (status.state === 'failed') throw new BootwireError('CAPTURE_REFUSED', status.note)
      if (isOver(status)) return status
      this.#tell(stage, status.note, stage === 'waiting' ? 0 : this.#source.sizeBytes)
      await this.#pause()
    }
  }

  /** Asks until the server is there. */
  async #patiently<Result>(ask: () => Promise<Result>): Promise<Result> {
    for (;;) {
      try {
        return await ask()
      } catch (error) {
        const isAway = error instanceof BootwireError && error.code === 'SERVER_UNREACHABLE'
        if (!isAway) throw error
        this.#tell('waiting', error.message, 0)
        await this.#pause()
      }
    }
  }

  async #pause(): Promise<void> {
    const { pauseMs = PAUSE_MS, signal } = this.#options
    await sleep(pauseMs, undefined, { signal })
  }

  #tell(stage: CaptureProgress['stage'], note: string, doneBytes: number): void {
    const { sizeBytes: totalBytes } = this.#source
    const [code, sentBytes] = [this.#code, this.#sentBytes]
    this.#options.onProgress({ stage, note, code, doneBytes, totalBytes, sentBytes })
  }
}
