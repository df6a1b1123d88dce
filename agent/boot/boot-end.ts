/**
 * Decides when a boot is over, so that the server learns what it read: half a minute after a login is
 * offered, or at the shutdown when that comes first. A boot that was switched off before a login would
 * teach the next ones less than a whole, and is not told.
 */
import type { ServedVdisk } from './served-vdisk.ts'

export interface BootEndTimes {
  /** What starts after a login is offered belongs to the boot: late services, a desktop's programs. */
  readonly afterLoginMs: number
  /** A system that offers no login, as a kiosk without systemd, is up this long after its root is. */
  readonly withoutLoginMs: number
}

const TIMES: BootEndTimes = { afterLoginMs: 30_000, withoutLoginMs: 5 * 60_000 }

export class BootEnd {
  readonly #vdisk: Pick<ServedVdisk, 'endBoot'>
  readonly #times: BootEndTimes
  #timer: NodeJS.Timeout | undefined
  #isUp = false
  #isOver = false

  /** `times` are only given by tests. */
  constructor(vdisk: Pick<ServedVdisk, 'endBoot'>, times: BootEndTimes = TIMES) {
    this.#vdisk = vdisk
    this.#times = times
  }

  rootMounted(): void {
    this.#endAfter(this.#times.withoutLoginMs)
  }

  loginOffered(): void {
    this.#isUp = true
    this.#endAfter(this.#times.afterLoginMs)
  }

  /** Ends it now, as when the system goes down. */
  end(): void {
    clearTimeout(this.#timer)
    if (this.#isOver) return
    this.#isOver = true
    this.#vdisk.endBoot(this.#isUp)
  }

  #endAfter(ms: number): void {
    clearTimeout(this.#timer)
    if (this.#isOver) return
    this.#timer = setTimeout(() => {
      this.#isUp = true
      this.end()
    }, ms).unref()
  }
}
