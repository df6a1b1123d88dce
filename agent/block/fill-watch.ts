/** Hears on the main thread when a worker's write fills the write cache to one of FILL_LEVELS. */
import type { FillLevel } from './write-cache-core.ts'
import { CONTROL_FILL_LEVEL } from './write-cache-files.ts'

export class FillWatch {
  readonly #control: Int32Array<SharedArrayBuffer>
  readonly #onReached: (level: FillLevel) => void
  #closed = false

  /** `onReached` is called each time the level rises; not for levels skipped by one large write. */
  constructor(control: SharedArrayBuffer, onReached: (level: FillLevel) => void) {
    this.#control = new Int32Array(control)
    this.#onReached = onReached
    void this.#watch()
  }

  close(): void {
    this.#closed = true
    Atomics.notify(this.#control, CONTROL_FILL_LEVEL)
  }

  async #watch(): Promise<void> {
    for (let level = 0; ; ) {
      const now = Atomics.load(this.#control, CONTROL_FILL_LEVEL)
      if (now > level) this.#onReached(now as FillLevel)
      level = now
      await Atomics.waitAsync(this.#control, CONTROL_FILL_LEVEL, level).value
      if (this.#closed) return
    }
  }
}
