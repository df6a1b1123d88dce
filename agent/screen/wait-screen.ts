/**
 * The screen of a client that waits. It counts the time, changes in place when the matter changes,
 * and goes away when it is closed.
 */
import { updateFrame } from './frame.ts'
import type { Screen, ScreenHost } from './screen.ts'
import { type WaitState, waitFrame } from './wait-frame.ts'

const TICK_MS = 1_000

export interface WaitScreenOptions {
  /** Monotonic milliseconds. */
  readonly now?: () => number
}

export class WaitScreen implements AsyncDisposable {
  readonly #screen: Screen
  readonly #now: () => number
  readonly #sinceMs: number
  readonly #timer: NodeJS.Timeout
  #state: WaitState

  private constructor(screen: Screen, state: WaitState, now: () => number) {
    this.#screen = screen
    this.#state = state
    this.#now = now
    this.#sinceMs = now()
    screen.draw(this.#frame())
    this.#timer = setInterval(() => {
      screen.update(this.#frame())
    }, TICK_MS)
    this.#timer.unref()
  }

  static async open(
    host: ScreenHost,
    state: WaitState,
    options: WaitScreenOptions = {},
  ): Promise<WaitScreen> {
    const screen = await host.openScreen(() => false)
    return new WaitScreen(screen, state, options.now ?? (() => performance.now()))
  }

  /** Shows something else to wait for; the time counted goes on. The same once more is not drawn. */
  update(state: WaitState): void {
    const isSame = updateFrame(waitFrame(this.#state, 0), waitFrame(state, 0)) === ''
    this.#state = state
    if (!isSame) this.#screen.draw(this.#frame())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await this.#screen[Symbol.asyncDispose]()
  }

  #frame() {
    return waitFrame(this.#state, this.#now() - this.#sinceMs)
  }
}
