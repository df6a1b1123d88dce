/**
 * Memory for chunk frames, used again and again: an allocation of 128 KiB per chunk makes the
 * garbage collector stop the server for milliseconds many times a second.
 */
import { CHUNK_HEADER_BYTES } from '#shared/wire/frame.ts'
import { CHUNK_BYTES_MAX } from '#shared/wire/limits.ts'

/** Idle frames kept, 8 MiB: what a handful of busy sessions use at once. */
const IDLE_FRAMES_MAX = 64

export class FramePool {
  readonly #idle: Uint8Array[] = []

  /** Returns a frame with room for a header and the largest chunk; its content is arbitrary. */
  take(): Uint8Array {
    return this.#idle.pop() ?? new Uint8Array(CHUNK_HEADER_BYTES + CHUNK_BYTES_MAX)
  }

  /** Takes a frame back that nobody will read any more. */
  give(frame: Uint8Array): void {
    if (this.#idle.length < IDLE_FRAMES_MAX) this.#idle.push(frame)
  }
}
