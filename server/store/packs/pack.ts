/** One pack and what is known of it. */

/** A pack that is being written, to those who need it durable or gone. */
export interface UnsealedPack {
  seal(): Promise<void>
  discard(): Promise<void>
}

export class Pack {
  readonly id: string
  readonly path: string
  /** Present while the pack is written, until its index is durable. */
  writer: UnsealedPack | undefined
  /** Imports that have put a chunk into it or decided to share one. */
  users = 0
  /** Number of the last commit that made a version hold a chunk of it; 0 when this process saw none. */
  lastCommit = 0
  /** Made by this process and held by no version yet: goes when its last user does. */
  isNew = false
  /** Garbage collection has chosen it: nobody begins to share its chunks any more. */
  isLeaving = false

  constructor(id: string, path: string) {
    this.id = id
    this.path = path
  }
}
