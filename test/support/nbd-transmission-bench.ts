/**
 * A transmission phase without socket and threads, over a device of 1 MiB: block 0 is 0x11, block 2
 * is 0x33, block 8 fails with ENOSPC, block 9 is cold; all else is zero.
 */

import type { ReplySink } from '#agent/node-nbd/block-device.ts'
import type { ColdRequest } from '#agent/node-nbd/cold-channel.ts'
import { ReplyBuffer } from '#agent/node-nbd/reply-buffer.ts'
import { ReplyEncoder } from '#agent/node-nbd/reply-encoder.ts'
import { RequestReader } from '#agent/node-nbd/request-reader.ts'
import { Transmission } from '#agent/node-nbd/transmission.ts'
import { BROKEN, createMemoryDevice, MemoryDevice } from './nbd-memory-device.ts'

const SIZE_BYTES = 1024 * 1024
const REQUEST_BYTES_MAX = 64 * 1024

/**
 * Replies with what is there at the read: a long one leaves later, and a write behind it in the
 * stream may have changed the memory by then. NBD allows either, but a test compares.
 */
class SteadyMemoryDevice extends MemoryDevice {
  override read(offset: number, length: number, sink: ReplySink): boolean {
    return super.read(offset, length, {
      append: (bytes) => sink.append(Uint8Array.from(bytes)),
      appendPart: (memory, at, count) =>
        sink.append(Uint8Array.from(memory.subarray(at, at + count))),
      appendZeros: (count) => sink.appendZeros(count),
      appendFile: (fd, at, count) => sink.appendFile(fd, at, count),
    })
  }
}

export interface TransmissionBenchOptions {
  readonly structured?: boolean
  readonly readOnly?: boolean
  /** Takes requests for the cold device; without it there is none. */
  readonly onCold?: (request: ColdRequest) => void
}

export class TransmissionBench {
  /** What the server wrote, one entry for each write. */
  readonly said: Buffer[] = []
  readonly memory: Buffer
  readonly #reader: RequestReader
  readonly #replies: ReplyBuffer
  readonly #transmission: Transmission

  constructor({ structured = false, readOnly = false, onCold }: TransmissionBenchOptions = {}) {
    const data = createMemoryDevice(SIZE_BYTES)
    this.memory = Buffer.from(data.memory)
    this.memory.fill(0x11, 0, 4096)
    this.memory.fill(0x33, 8192, 12288)
    new Uint8Array(data.absent).set([BROKEN, 1], 8)
    this.#reader = new RequestReader(Buffer.alloc(readOnly ? 0 : REQUEST_BYTES_MAX))
    this.#replies = new ReplyBuffer({
      write: (bytes, length) => this.said.push(Buffer.from(bytes.subarray(0, length))),
      writeAll: (pieces) => this.said.push(Buffer.concat(pieces)),
    })
    this.#transmission = new Transmission({
      facts: {
        sizeBytes: SIZE_BYTES,
        readOnly,
        minimumBlockBytes: 512,
        maximumBlockBytes: REQUEST_BYTES_MAX,
        fastZeroes: false,
      },
      negotiated: { structuredReplies: structured, baseAllocation: structured },
      hot: new SteadyMemoryDevice(data),
      reader: this.#reader,
      encoder: new ReplyEncoder(this.#replies, structured),
      cold: onCold && { submit: onCold },
    })
  }

  /** Gives it the bytes, at most `pieceBytes` at once; returns false when the client disconnected. */
  receive(bytes: Buffer, pieceBytes: number = Number.POSITIVE_INFINITY): boolean {
    for (let done = 0; done < bytes.length; ) {
      const count = Math.min(pieceBytes, bytes.length - done, this.#reader.targetRoom)
      this.#reader.feed(bytes.subarray(done, done + count))
      done += count
      const goesOn = this.#transmission.serveRequests()
      this.#replies.flush()
      if (!goesOn) return false
    }
    return true
  }
}
