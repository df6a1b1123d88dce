/**
 * The screen of a client that waits. It counts the time, changes in place when the matter changes,
 * shows the QR code of an enrolment on a key, and goes away when it is closed.
 */
import { codeFrame } from './code-frame.ts'
import { type Frame, updateFrame } from './frame.ts'
import type { Key } from './keys.ts'
import type { Screen, ScreenHost } from './screen.ts'
import { type WaitState, waitFrame } from './wait-frame.ts'

const TICK_MS = 1_000

const QR_KEY = 'q'

export interface WaitScreenOptions {
  /** Monotonic milliseconds. */
  readonly now?: () => number
}

export class WaitScreen implements AsyncDisposable {
  #screen: Screen | undefined
  readonly #now: () => number
  readonly #sinceMs: number
  readonly #timer: NodeJS.Timeout
  #state: WaitState
  #isCodeShown = false

  private constructor(state: WaitState, now: () => number) {
    this.#state = state
    this.#now = now
    this.#sinceMs = now()
    this.#timer = setInterval(() => {
      this.#screen?.update(this.#frame())
    }, TICK_MS)
    this.#timer.unref()
  }

  static async open(
    host: ScreenHost,
    state: WaitState,
    options: WaitScreenOptions = {},
  ): Promise<WaitScreen> {
    const waiting = new WaitScreen(state, options.now ?? (() => performance.now()))
    waiting.#screen = await host.openScreen((key) => waiting.#press(key))
    waiting.#screen.draw(waiting.#frame())
    return waiting
  }

  /** Shows something else to wait for; the time counted goes on. The same once more is not drawn. */
  update(state: WaitState): void {
    const isSame = updateFrame(waitFrame(this.#state, 0), waitFrame(state, 0)) === ''
    this.#state = state
    if (isSame) return
    this.#isCodeShown &&= state.enrol !== undefined
    this.#screen?.draw(this.#frame())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await this.#screen?.[Symbol.asyncDispose]()
  }

  #press(key: Key): boolean {
    const isAsked = key.kind === 'character' && key.character.toLowerCase() === QR_KEY
    if (!this.#isCodeShown && !(isAsked && this.#state.enrol !== undefined)) return false
    this.#isCodeShown = !this.#isCodeShown
    this.#screen?.draw(this.#frame())
    return true
  }

  #frame(): Frame {
    const { enrol, hostname, server } = this.#state
    if (this.#isCodeShown && enrol !== undefined) return codeFrame(enrol, hostname, server.name)
    return waitFrame(this.#state, this.#now() - this.#sinceMs)
  }
}
