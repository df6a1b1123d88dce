/**
 * Room for what is written: a change that finds none is made once there is some. More comes from the
 * local disk's write area, as long as that has any, and from what the system trims; until then whoever
 * writes waits, as behind a slow disk. A write fails only when the system goes down and nobody may wait.
 * Main thread only.
 */
import type { AreaShare } from '../write-area/area-share.ts'
import { isNoRoom, type WriteCache } from './write-cache.ts'

export interface WriteRoomParts {
  readonly writeCache: WriteCache
  /** Where more of it is. */
  readonly share: AreaShare | undefined
  /** Somebody waits: the server may take something. */
  readonly onWait: () => void
  /** Whether a server would take more. */
  readonly hasServerRoom?: () => boolean
  /** The disk of the share failed: nothing comes from there any more. */
  readonly onShareFailed: (error: unknown) => void
}

/** Room may come without a word when another process of this machine frees memory. */
const LOOK_AGAIN_MS = 1_000

export class WriteRoom {
  readonly #parts: WriteRoomParts
  #growing: Promise<boolean> | undefined
  #canGrow: boolean
  #waiting = 0
  #mayFail = false

  constructor(parts: WriteRoomParts) {
    this.#parts = parts
    this.#canGrow = parts.share !== undefined
  }

  /** Writes that wait for room. */
  get waiting(): number {
    return this.#waiting
  }

  /**
   * Makes the change, as soon as there is room for it.
   * @throws what it throws for another reason, and for want of room after `failWithoutRoom`
   */
  async use<T>(change: () => T): Promise<T> {
    for (;;) {
      const { roomMade } = this.#parts.writeCache
      try {
        return change()
      } catch (error) {
        if (!isNoRoom(error)) throw error
        if (await this.#grow()) continue
        if (this.#mayFail) throw error
      }
      await this.#wait(roomMade)
    }
  }

  /** From now on nobody waits: the system goes down, and what it writes is not read again. */
  failWithoutRoom(): void {
    this.#mayFail = true
    this.#parts.writeCache.openReserve() // wakes those that wait
  }

  async #wait(roomMade: number): Promise<void> {
    const { writeCache, onWait } = this.#parts
    onWait()
    if (this.#isFull()) writeCache.announceFull()
    this.#waiting += 1
    try {
      await writeCache.untilRoom(roomMade, LOOK_AGAIN_MS)
    } finally {
      this.#waiting -= 1
    }
  }

  #isFull(): boolean {
    return this.#parts.hasServerRoom?.() !== true
  }

  /** Returns whether there is more room than before. Whoever comes meanwhile waits for the same. */
  async #grow(): Promise<boolean> {
    if (!this.#canGrow) return false
    this.#growing ??= this.#addExtent()
    try {
      return await this.#growing
    } finally {
      this.#growing = undefined
    }
  }

  async #addExtent(): Promise<boolean> {
    const { share, writeCache, onShareFailed } = this.#parts
    try {
      const extent = await share?.grow()
      if (extent !== undefined) writeCache.addExtent(extent)
      else this.#canGrow = false
      return extent !== undefined
    } catch (error) {
      this.#canGrow = false
      onShareFailed(error)
      return false
    }
  }
}
