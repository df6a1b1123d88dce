/**
 * Tells whoever sits at a running system that it stands still because the server is away, and that
 * nothing is lost; else they press the power button. By then the consoles belong to the system, so
 * these are plain lines: at once, at growing intervals, and when the server is back.
 */
import { formatWaited } from './waited-time.ts'

/** A server that restarts is back sooner; that is not worth a line in somebody's editor. */
const FIRST_MS = 5_000
/** Each line waits twice as long as the one before, up to this. */
const INTERVAL_MAX_MS = 10 * 60_000

export interface Announcer {
  announce(text: string): void
}

export class ServerLostNotice implements Disposable {
  readonly #consoles: Announcer
  readonly #address: string
  readonly #now: () => number
  readonly #sinceMs: number
  #timer: NodeJS.Timeout
  #isAnnounced = false

  /** Begins when the server is lost. */
  constructor(consoles: Announcer, address: string, now: () => number = () => performance.now()) {
    this.#consoles = consoles
    this.#address = address
    this.#now = now
    this.#sinceMs = now()
    this.#timer = this.#announceAfter(FIRST_MS)
  }

  /** Ends it: the server is back. */
  end(): void {
    clearTimeout(this.#timer)
    if (!this.#isAnnounced) return
    this.#isAnnounced = false
    this.#consoles.announce(`server ${this.#address} is back after ${this.#waited()}`)
  }

  /** Ends it without a word. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#isAnnounced = false
  }

  #announceAfter(delayMs: number): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#isAnnounced = true
      this.#consoles.announce(
        `server ${this.#address} lost for ${this.#waited()}, waiting; your work is kept, leave the machine on`,
      )
      this.#timer = this.#announceAfter(Math.min(2 * delayMs, INTERVAL_MAX_MS))
    }, delayMs)
    return timer.unref()
  }

  #waited(): string {
    return formatWaited(this.#now() - this.#sinceMs)
  }
}
