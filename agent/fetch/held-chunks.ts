/** Chunks that came while readers held up the RAM tier. All of them are tried again once there is room. */
import type { Encoded } from '#shared/chunk/chunk-decoder.ts'
import type { ObjectFetch } from './object-fetch.ts'
import type { ChunkPlace } from './version-tree.ts'

export type Source = 'server' | 'local'

/** A chunk as it came. `payload` is only valid for a while. */
export interface CameChunk {
  readonly fetch: ObjectFetch
  readonly place: ChunkPlace
  readonly encoded: Encoded
  readonly payload: Uint8Array
  readonly source: Source
}

export class HeldChunks {
  readonly #room: () => Promise<void>
  readonly #onRoom: (chunks: readonly CameChunk[]) => void
  #held: CameChunk[] = []

  constructor(room: () => Promise<void>, onRoom: (chunks: readonly CameChunk[]) => void) {
    this.#room = room
    this.#onRoom = onRoom
  }

  get isEmpty(): boolean {
    return this.#held.length === 0
  }

  /** Copies it. */
  hold(chunk: CameChunk): void {
    this.#held.push({ ...chunk, payload: Uint8Array.from(chunk.payload) })
    if (this.#held.length > 1) return
    void this.#room().then(() => this.#onRoom(this.#held.splice(0)))
  }
}
