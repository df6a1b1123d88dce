/**
 * Blocking reads and writes on a socket's descriptor, from a worker thread. Several threads may
 * write to one socket: each write of whole replies happens under a lock in shared memory.
 */
import { readSync, writeSync, writevSync } from 'node:fs'
import type { ReplyOutput } from './reply-buffer.ts'
import type { SharedMutex } from './shared-mutex.ts'

/** The peer is gone. */
export class ConnectionGone extends Error {
  override readonly name = 'ConnectionGone'
}

const GONE: ReadonlySet<unknown> = new Set(['EPIPE', 'ECONNRESET', 'ENOTCONN', 'ETIMEDOUT'])

/**
 * Waits for bytes and returns how many came; 0 at the end of the stream.
 * @throws {ConnectionGone}
 */
export function readDescriptor(fd: number, target: Buffer, at: number, room: number): number {
  for (;;) {
    try {
      return readSync(fd, target, at, room, null)
    } catch (error) {
      if (codeOf(error) !== 'EINTR') throw goneOr(error)
    }
  }
}

export class DescriptorOutput implements ReplyOutput {
  readonly #fd: number
  readonly #lock: SharedMutex

  constructor(fd: number, lock: SharedMutex) {
    this.#fd = fd
    this.#lock = lock
  }

  write(bytes: Buffer, lengthBytes: number): void {
    this.#lock.lock()
    try {
      for (let done = 0; done < lengthBytes; ) {
        done += writeSync(this.#fd, bytes, done, lengthBytes - done)
      }
    } catch (error) {
      throw goneOr(error)
    } finally {
      this.#lock.unlock()
    }
  }

  writeAll(pieces: Uint8Array[]): void {
    this.#lock.lock()
    try {
      for (let rest = pieces; rest.length > 0; ) rest = behind(rest, writevSync(this.#fd, rest))
    } catch (error) {
      throw goneOr(error)
    } finally {
      this.#lock.unlock()
    }
  }
}

/** What is left of the pieces after the first `lengthBytes`. */
function behind(pieces: Uint8Array[], lengthBytes: number): Uint8Array[] {
  let left = lengthBytes
  for (const [index, piece] of pieces.entries()) {
    if (left < piece.length) return [piece.subarray(left), ...pieces.slice(index + 1)]
    left -= piece.length
  }
  return []
}

function goneOr(error: unknown): unknown {
  return GONE.has(codeOf(error)) ? new ConnectionGone('the peer is gone', { cause: error }) : error
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}
