/**
 * All consoles of this machine: the screen and the serial lines. Every one shows the same and takes
 * keys, since nobody knows which one has a person in front of it.
 *
 * Either a full screen is up or plain lines are shown. Lines logged while a screen is up come after
 * it. A console that is missing, stopped or gone hinders neither the others nor the agent.
 */
import { invariant } from '#shared/invariant.ts'
import { ConsoleInput } from './console-input.ts'
import { ConsoleOutput } from './console-output.ts'
import { activeConsolePaths } from './console-paths.ts'
import { ConsoleScreen } from './console-screen.ts'
import { COLUMNS, endFrame } from './frame.ts'
import type { Key } from './keys.ts'
import type { KeyHandler, Screen, ScreenHost } from './screen.ts'
import { setTerminalMode } from './terminal-mode.ts'
import { wrap } from './text-layout.ts'

const PREFIX = 'bootwire: '

/** Lines kept while a screen is up: a screenful, of which the last are worth most. */
const HELD_LINES_MAX = 20

export class Consoles implements ScreenHost, Disposable {
  readonly #outputs: readonly ConsoleOutput[]
  #screen: ConsoleScreen | undefined
  #overlay: ConsoleScreen | undefined
  #onUnclaimed: KeyHandler = () => false
  #isWatching = false
  #isReading = false
  #inputs: readonly ConsoleInput[] = []
  #rawPaths: readonly string[] = []
  /** Settles when the terminals are in the mode that is wanted of them. */
  #settling: Promise<void> = Promise.resolve()
  #heldLines: string[] = []

  constructor(paths: readonly string[] = activeConsolePaths()) {
    this.#outputs = paths.map(
      (path) =>
        new ConsoleOutput(path, (output) => {
          this.#top?.redraw(output)
        }),
    )
  }

  /** Shows a line of progress, now or when the screen is gone. */
  log(text: string): void {
    this.#writeLines(formatLine(text))
  }

  /**
   * Shows a line on consoles that belong to the running system: a login prompt may be there, so the
   * text begins on a line of its own.
   */
  announce(text: string): void {
    this.#writeLines(['', ...formatLine(text)])
  }

  /** Brings up a screen; its first `draw` shows it. One at a time: the one before is closed first. */
  async openScreen(onKey: KeyHandler): Promise<Screen> {
    invariant(this.#screen === undefined, 'a screen is up already')
    const screen = new ConsoleScreen(this.#outputs, (key) => onKey(key) || this.#onUnclaimed(key))
    if (this.#overlay !== undefined) screen.hide()
    this.#screen = screen
    await this.#settleMode()
    return this.#handle(screen, async () => {
      if (this.#screen !== screen) return
      this.#screen = undefined
      await this.#leave(screen)
    })
  }

  /** Brings up a screen over the one there is, or none, which is drawn again when this one is closed. */
  async openOverlay(onKey: KeyHandler): Promise<Screen> {
    invariant(this.#overlay === undefined, 'an overlay is up already')
    const overlay = new ConsoleScreen(this.#outputs, onKey)
    this.#overlay = overlay
    this.#screen?.hide()
    await this.#settleMode()
    return this.#handle(overlay, async () => {
      if (this.#overlay !== overlay) return
      this.#overlay = undefined
      await this.#leave(overlay)
    })
  }

  /** Sets the one who gets keys that no screen has a use for, and those typed while there is none. */
  onUnclaimedKey(handler: KeyHandler): void {
    this.#onUnclaimed = handler
  }

  /** Takes keys also while no screen is up. */
  async watchKeys(): Promise<void> {
    this.#isWatching = true
    await this.#settleMode()
  }

  /** Leaves the terminals as a shell wants them, unless a screen is up. */
  async unwatchKeys(): Promise<void> {
    this.#isWatching = false
    await this.#settleMode()
  }

  [Symbol.dispose](): void {
    this.#closeInputs()
    for (const screen of [this.#screen, this.#overlay]) screen?.[Symbol.dispose]()
    this.#screen = undefined
    this.#overlay = undefined
    for (const output of this.#outputs) output[Symbol.dispose]()
  }

  #handle(screen: ConsoleScreen, close: () => Promise<void>): Screen {
    return {
      draw: (frame) => screen.draw(frame),
      update: (frame) => screen.update(frame),
      [Symbol.asyncDispose]: close,
    }
  }

  /** What is shown, and gets the keys. */
  get #top(): ConsoleScreen | undefined {
    return this.#overlay ?? this.#screen
  }

  async #leave(screen: ConsoleScreen): Promise<void> {
    screen[Symbol.dispose]()
    const below = this.#top
    if (below !== undefined) {
      below.show()
      return
    }
    for (const output of this.#outputs) output.replace(endFrame())
    const lines = this.#heldLines
    this.#heldLines = []
    this.#writeLines(lines)
    await this.#settleMode()
  }

  /** Terminals are raw, and read, while somebody wants keys. */
  async #settleMode(): Promise<void> {
    this.#settling = this.#settling.then(async () => {
      const isWanted = this.#isWatching || this.#top !== undefined
      if (isWanted === this.#isReading) return
      this.#isReading = isWanted
      if (isWanted) await this.#openInputs()
      else {
        this.#closeInputs()
        await this.#makeSane()
      }
    })
    await this.#settling
  }

  async #openInputs(): Promise<void> {
    await this.#makeRaw()
    this.#inputs = this.#outputs.map(
      ({ path }) => new ConsoleInput(path, (key) => this.#press(key)),
    )
  }

  #closeInputs(): void {
    for (const input of this.#inputs) input[Symbol.dispose]()
    this.#inputs = []
  }

  #press(key: Key): void {
    if (this.#top === undefined) this.#onUnclaimed(key)
    else this.#top.press(key)
  }

  async #makeRaw(): Promise<void> {
    const open = this.#outputs.filter((output) => output.isOpen)
    const paths = open.map(async ({ path }) => (await setTerminalMode(path, 'raw')) && path)
    this.#rawPaths = (await Promise.all(paths)).filter((path) => path !== false)
  }

  /** Leaves out those that could not be made raw: they would only be waited for once more. */
  async #makeSane(): Promise<void> {
    await Promise.all(this.#rawPaths.map(async (path) => await setTerminalMode(path, 'sane')))
  }

  #writeLines(lines: readonly string[]): void {
    if (this.#top !== undefined) {
      this.#heldLines = [...this.#heldLines, ...lines].slice(-HELD_LINES_MAX)
      return
    }
    const text = lines.map((line) => `${line}\r\n`).join('')
    if (text !== '') for (const output of this.#outputs) output.append(text)
  }
}

function formatLine(text: string): string[] {
  const lines = wrap(text, COLUMNS - PREFIX.length)
  return lines.map((line, index) => `${index === 0 ? PREFIX : ' '.repeat(PREFIX.length)}${line}`)
}
