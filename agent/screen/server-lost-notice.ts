/**
 * Tells whoever sits at a running system that it stands still because the server is away, and that
 * nothing is lost; else they press the power button. Where all of the vDisk is on the local disk the
 * system runs on, which is said once. By then the consoles belong to the system, so
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

/** What is wrong with the server: there is no connection, or nothing comes over it. */
export type ServerTrouble = 'lost' | 'silent'

const TROUBLES: Readonly<Record<ServerTrouble, string>> = {
  lost: 'lost',
  silent: 'answers but has sent nothing',
}

export interface ServerLostOptions {
  readonly trouble?: ServerTrouble
  /** Whether nothing needs the server at the moment. */
  readonly runsAlone?: () => boolean
  /** Only given by tests. */
  readonly now?: () => number
}

export class ServerLostNotice implements Disposable {
  readonly #consoles: Announcer
  readonly #address: string
  readonly #trouble: ServerTrouble
  readonly #runsAlone: () => boolean
  readonly #now: () => number
  readonly #sinceMs: number
  #timer: NodeJS.Timeout
  #isAnnounced = false
  #isSaidToRunAlone = false

  /** Begins when the server is lost. */
  constructor(
    consoles: Announcer,
    address: string,
    {
      trouble = 'lost',
      runsAlone = () => false,
      now = () => performance.now(),
    }: ServerLostOptions = {},
  ) {
    this.#trouble = trouble
    this.#runsAlone = runsAlone
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
      this.#announce()
      this.#timer = this.#announceAfter(Math.min(2 * delayMs, INTERVAL_MAX_MS))
    }, delayMs)
    return timer.unref()
  }

  #announce(): void {
    this.#isAnnounced = true
    const lost = `server ${this.#address} ${TROUBLES[this.#trouble]} for ${this.#waited()}`
    if (!this.#runsAlone()) {
      this.#isSaidToRunAlone = false
      this.#consoles.announce(`${lost}, waiting; your work is kept, leave the machine on`)
    } else if (!this.#isSaidToRunAlone) {
      this.#isSaidToRunAlone = true
      this.#consoles.announce(`${lost}; this machine runs on without it, from its own disk`)
    }
  }

  #waited(): string {
    return formatWaited(this.#now() - this.#sinceMs)
  }
}
