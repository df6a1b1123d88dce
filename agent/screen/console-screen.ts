/**
 * The screen that is up on the consoles. Lines of the kernel may run through it at any time, so it is
 * drawn again on Ctrl-L, on every key that does nothing else, and once a minute for whoever comes
 * along; and on a stopped line when it goes on.
 */
import { drawFrame, type Frame, updateFrame } from './frame.ts'
import type { Key } from './keys.ts'
import type { KeyHandler } from './screen.ts'

const REDRAW_INTERVAL_MS = 60_000

/** Noise on an open serial line looks like keys; it must not become a flood of screens. */
const REDRAW_PAUSE_MS = 250

/** What a screen needs of a `ConsoleOutput`. */
export interface ScreenOutput {
  append(text: string): void
  replace(text: string): void
}

export class ConsoleScreen implements Disposable {
  readonly #outputs: readonly ScreenOutput[]
  readonly #onKey: KeyHandler
  readonly #redrawTimer: NodeJS.Timeout
  #frame: Frame = []
  #drawnAtMs = 0
  #isHidden = false

  constructor(outputs: readonly ScreenOutput[], onKey: KeyHandler) {
    this.#outputs = outputs
    this.#onKey = onKey
    this.#redrawTimer = setInterval(() => {
      this.draw(this.#frame)
    }, REDRAW_INTERVAL_MS)
    this.#redrawTimer.unref()
  }

  [Symbol.dispose](): void {
    clearInterval(this.#redrawTimer)
  }

  /** Another one lies over it: keeps what is drawn to itself. */
  hide(): void {
    this.#isHidden = true
  }

  show(): void {
    this.#isHidden = false
    this.draw(this.#frame)
  }

  draw(frame: Frame): void {
    this.#frame = frame
    if (this.#isHidden) return
    this.#drawnAtMs = performance.now()
    for (const output of this.#outputs) this.redraw(output)
  }

  update(frame: Frame): void {
    const changes = updateFrame(this.#frame, frame)
    this.#frame = frame
    if (changes !== '' && !this.#isHidden)
      for (const output of this.#outputs) output.append(changes)
  }

  redraw(output: ScreenOutput): void {
    output.replace(drawFrame(this.#frame))
  }

  press(key: Key): void {
    if (key.kind !== 'redraw' && this.#onKey(key)) return
    if (performance.now() - this.#drawnAtMs >= REDRAW_PAUSE_MS) this.draw(this.#frame)
  }
}
