/** A full screen on every console at once, and the keys typed on any of them. */
import type { Frame } from './frame.ts'
import type { Key } from './keys.ts'

export interface Screen extends AsyncDisposable {
  /** Shows the frame from scratch, in plain order. For what is new to the reader. */
  draw(frame: Frame): void
  /** Writes only the cells that changed. For highlights and countdowns. */
  update(frame: Frame): void
}

/** Returns whether the key did something; one that did not draws the screen again. */
export type KeyHandler = (key: Key) => boolean

/** Where screens come up, one at a time: `Consoles`, or a fake in tests. */
export interface ScreenHost {
  openScreen(onKey: KeyHandler): Promise<Screen>
}
