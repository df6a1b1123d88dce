/** The part of a session by which the server keeps what this client writes. */
import { BootwireError } from '#shared/errors.ts'
import type { Opened } from '#shared/wire/messages.ts'
import {
  decodeBlocks,
  decodeWriteMap,
  decodeWritten,
  encodeReadBack,
  encodeWrite,
  FRAME_BLOCKS,
  FRAME_WRITE_MAP,
  FRAME_WRITTEN,
  type ReadBack,
  type WriteRecord,
  type WriteRun,
} from '#shared/wire/write-frames.ts'
import type { WriteListener, WriteTransport } from '../block/write-transport.ts'

/** Of a map: 16 million blocks that alternate would be 192 MB, and are no use of a disk. */
const RUNS_MAX = 1_000_000

export class WriteChannel implements WriteTransport {
  readonly #send: (frame: Uint8Array) => void
  readonly #map = Promise.withResolvers<readonly WriteRun[]>()
  #runs: WriteRun[] = []
  #runsExpected = 0
  #listener: WriteListener | undefined
  /** Undefined while nothing is taken. */
  #roomBytes: number | undefined

  constructor(send: (frame: Uint8Array) => void) {
    this.#send = send
  }

  /** What earlier boots have written, as the server said when it first opened the vDisk. */
  writeMap(): Promise<readonly WriteRun[]> {
    return this.#map.promise
  }

  listenWrites(listener: WriteListener): void {
    this.#listener = listener
    if (this.#roomBytes !== undefined) listener.onOpen(this.#roomBytes)
  }

  write(sequence: number, records: readonly WriteRecord[]): void {
    if (this.#roomBytes !== undefined) this.#send(encodeWrite(sequence, records))
  }

  readBack(wanted: ReadBack): void {
    if (this.#roomBytes !== undefined) this.#send(encodeReadBack(wanted))
  }

  /** The vDisk is open on this connection. @throws {BootwireError} MESSAGE_INVALID */
  opened({ writes }: Opened): void {
    this.#runs = []
    this.#runsExpected = writes?.runs ?? 0
    if (this.#runsExpected > RUNS_MAX) {
      throw invalid(`a write map of ${this.#runsExpected} runs, at most ${RUNS_MAX} are allowed`)
    }
    if (this.#runsExpected === 0) this.#map.resolve([])
    this.#roomBytes = writes?.roomBytes
    if (writes !== undefined) this.#listener?.onOpen(writes.roomBytes)
  }

  lost(): void {
    if (this.#roomBytes === undefined) return
    this.#roomBytes = undefined
    this.#listener?.onLost()
  }

  /** Returns whether the frame is one of these. @throws {BootwireError} MESSAGE_INVALID */
  take(frame: Uint8Array): boolean {
    switch (frame[0]) {
      case FRAME_WRITTEN:
        this.#listener?.onWritten(decodeWritten(frame))
        return true
      case FRAME_BLOCKS:
        this.#listener?.onBlocks(decodeBlocks(frame))
        return true
      case FRAME_WRITE_MAP:
        this.#takeMap(decodeWriteMap(frame))
        return true
      case undefined:
      default:
        return false
    }
  }

  #takeMap(runs: readonly WriteRun[]): void {
    if (this.#runs.length + runs.length > this.#runsExpected) {
      throw invalid(`more runs of a write map than ${this.#runsExpected}`)
    }
    this.#runs.push(...runs)
    if (this.#runs.length === this.#runsExpected) this.#map.resolve(this.#runs)
  }
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot use the server's message: ${why}`)
}
