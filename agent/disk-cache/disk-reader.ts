/**
 * Reads from the disk: a few at a time, into buffers that are used again, and none for longer than
 * anybody would wait while there is a server to ask instead.
 */
import type { DiskDevice } from '../local-disk/disk-device.ts'
import type { CacheHealth } from './cache-health.ts'
import { DiskHangs, withDeadline } from './deadline.ts'
import { RUN_BYTES_MAX } from './read-runs.ts'

/** Half of the threads there are (start-agent.sh): the others are for names of servers and for writing. */
const READS_MAX = 4

/** Longer than any sound disk takes that is awake. */
export const READ_DEADLINE_MS = 2_000

export interface DiskReaderOptions {
  readonly device: DiskDevice
  readonly health: CacheHealth
  /** Without a server a disk that hangs is waited for. */
  readonly hasServer: () => boolean
  readonly deadlineMs: number
}

export class DiskReader {
  readonly #options: DiskReaderOptions
  readonly #buffers: Buffer[] = []
  readonly #waiting: (() => void)[] = []
  #reading = 0

  constructor(options: DiskReaderOptions) {
    this.#options = options
  }

  /**
   * Calls `use` with the bytes, which are valid during the call, and returns true; or returns false
   * when they cannot be had.
   */
  async read(position: number, length: number, use: (bytes: Buffer) => void): Promise<boolean> {
    while (this.#reading >= READS_MAX && this.#mayTry()) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    if (!this.#mayTry()) {
      // Nor need those who wait for their turn.
      this.#wakeAll()
      return false
    }
    const buffer = this.#buffers.pop() ?? Buffer.allocUnsafeSlow(RUN_BYTES_MAX)
    const bytes = buffer.subarray(0, length)
    this.#reading += 1
    const reading = this.#options.device.read(bytes, position)
    const ended = reading.finally(() => this.#ended())
    try {
      await this.#wait(ended)
    } catch (error) {
      // What hangs still writes into the buffer.
      if (!(error instanceof DiskHangs)) this.#buffers.push(buffer)
      return false
    }
    this.#options.health.readWorked()
    use(bytes)
    this.#buffers.push(buffer)
    return true
  }

  #mayTry(): boolean {
    const { health, hasServer } = this.#options
    return health.isReadable && !(health.isStalled && hasServer())
  }

  async #wait(ended: Promise<void>): Promise<void> {
    const { health, hasServer, deadlineMs } = this.#options
    try {
      await withDeadline(ended, deadlineMs, hasServer)
    } catch (error) {
      if (error instanceof DiskHangs) {
        health.stalled(error)
        ended.catch(() => undefined)
        this.#wakeAll()
      } else health.readFailed(error)
      throw error
    }
  }

  #ended(): void {
    this.#reading -= 1
    this.#options.health.answered()
    this.#waiting.shift()?.()
  }

  /** They look whether it is worth to wait on. */
  #wakeAll(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}
