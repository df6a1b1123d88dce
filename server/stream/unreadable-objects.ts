/**
 * Objects the store could not give. Clients ask for them again and again; the log tells of each once.
 */
import type { Log } from '#server/log.ts'

/** Beyond this a disk is dying, and the log has said so. */
const REMEMBERED_MAX = 1000

export interface UnreadableObject {
  readonly versionId: string
  readonly level: number
  readonly position: number
}

export class UnreadableObjects {
  readonly #log: Log
  readonly #known = new Set<string>()
  #answers = 0

  constructor(log: Log) {
    this.#log = log
  }

  /** Objects that were unreadable since the server started, as far as they are remembered. */
  get count(): number {
    return this.#known.size
  }

  /** How often a client was told so. */
  get answers(): number {
    return this.#answers
  }

  note({ versionId, level, position }: UnreadableObject, error: unknown): void {
    this.#answers += 1
    const key = `${versionId}/${level}/${position}`
    if (this.#known.has(key) || this.#known.size >= REMEMBERED_MAX) return
    this.#known.add(key)
    this.#log.error({ err: error, versionId, level, position }, 'cannot read an object')
  }
}
