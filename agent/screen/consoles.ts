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
import type { KeyHandler, Screen, ScreenHost } from './screen.ts'
import { setTerminalMode } from './terminal-mode.ts'
import { wrap } from './text-layout.ts'

const PREFIX = 'bootwire: '

/** Lines kept while a screen is up: a screenful, of which the last are worth most. */
const HELD_LINES_MAX = 20

export class Consoles implements ScreenHost, Disposable {
  readonly #outputs: readonly ConsoleOutput[]
  #screen: ConsoleScreen | undefined
  #inputs: readonly ConsoleInput[] = []
  #rawPaths: readonly string[] = []
  /** Settles when the last screen has left the terminals as a shell wants them. */
  #left: Promise<unknown> = Promise.resolve()
  #heldLines: string[] = []

  constructor(paths: readonly string[] = activeConsolePaths()) {
    this.#outputs = paths.map(
      (path) =>
        new ConsoleOutput(path, (output) => {
          this.#screen?.redraw(output)
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
    const screen = new ConsoleScreen(this.#outputs, onKey)
    this.#screen = screen
    await this.#left
    await this.#makeRaw()
    this.#inputs = this.#outputs.map(
      ({ path }) =>
        new ConsoleInput(path, (key) => {
          screen.press(key)
        }),
    )
    return {
      draw: (frame) => {
        screen.draw(frame)
      },
      update: (frame) => {
        screen.update(frame)
      },
      [Symbol.asyncDispose]: async () => {
        if (this.#screen === screen) this.#leave()
        await this.#left
      },
    }
  }

  [Symbol.dispose](): void {
    this.#stopScreen()
    for (const output of this.#outputs) output[Symbol.dispose]()
  }

  #leave(): void {
    this.#stopScreen()
    for (const output of this.#outputs) output.replace(endFrame())
    this.#left = this.#makeSane()
    const lines = this.#heldLines
    this.#heldLines = []
    this.#writeLines(lines)
  }

  #stopScreen(): void {
    for (const input of this.#inputs) input[Symbol.dispose]()
    this.#inputs = []
    this.#screen?.[Symbol.dispose]()
    this.#screen = undefined
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
    if (this.#screen !== undefined) {
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
