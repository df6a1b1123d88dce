/** A place for screens in memory: what is shown, how it came there, and a keyboard. */
import type { Frame } from '#agent/screen/frame.ts'
import type { Key, NamedKey } from '#agent/screen/keys.ts'
import type { KeyHandler, Screen, ScreenHost } from '#agent/screen/screen.ts'
import { invariant } from '#shared/invariant.ts'

export class FakeConsoleScreen implements ScreenHost {
  frame: Frame | undefined
  draws = 0
  updates = 0
  #onKey: KeyHandler | undefined

  get isUp(): boolean {
    return this.#onKey !== undefined
  }

  get text(): string {
    return (this.frame ?? []).map((row) => row.text).join('\n')
  }

  /** The text of the row in reverse video. */
  get highlighted(): string | undefined {
    return this.frame?.find((row) => row.emphasis === 'reverse')?.text
  }

  openScreen(onKey: KeyHandler): Promise<Screen> {
    invariant(!this.isUp, 'a screen is up already')
    this.#onKey = onKey
    return Promise.resolve({
      draw: (frame) => {
        this.frame = frame
        this.draws += 1
      },
      update: (frame) => {
        this.frame = frame
        this.updates += 1
      },
      [Symbol.asyncDispose]: () => {
        this.#onKey = undefined
        return Promise.resolve()
      },
    })
  }

  /** Presses a key by its name, or the key of a character. Returns whether it did something. */
  press(key: NamedKey | { readonly character: string }): boolean {
    invariant(this.#onKey !== undefined, 'no screen is up')
    const pressed: Key = typeof key === 'string' ? { kind: key } : { kind: 'character', ...key }
    return this.#onKey(pressed)
  }
}
