/**
 * The boot menu on the consoles: open it, give it other offers when the administrator changes them,
 * and wait for the choice of a person or of the countdown.
 */
import type { Key } from './keys.ts'
import { type MenuHeading, menuFrame } from './menu-frame.ts'
import {
  createMenuState,
  type MenuOptions,
  type MenuState,
  type MenuStep,
  pressMenuKey,
  tickMenu,
  updateMenu,
} from './menu-state.ts'
import type { Screen, ScreenHost } from './screen.ts'

const TICK_MS = 1_000

export interface BootMenuOptions extends MenuOptions, MenuHeading {}

export class BootMenu implements AsyncDisposable {
  readonly #choice = Promise.withResolvers<string>()
  #options: BootMenuOptions
  #state: MenuState
  #screen: Screen | undefined
  #timer: NodeJS.Timeout | undefined

  private constructor(options: BootMenuOptions) {
    this.#options = options
    this.#state = createMenuState(options)
    // Nobody may be waiting yet when the signal comes.
    this.#choice.promise.catch(() => undefined)
  }

  static async open(host: ScreenHost, options: BootMenuOptions): Promise<BootMenu> {
    const menu = new BootMenu(options)
    const screen = await host.openScreen((key) => menu.#press(key))
    menu.#screen = screen
    screen.draw(menu.#frame())
    menu.#timer = setInterval(() => {
      menu.#take(tickMenu(menu.#state))
    }, TICK_MS)
    return menu
  }

  /** Takes other offers, at least one; what is highlighted stays so when it is still there. */
  update(options: BootMenuOptions): void {
    this.#options = options
    this.#state = updateMenu(this.#state, options)
    this.#screen?.draw(this.#frame())
  }

  /** Returns the name of the vDisk to boot. Rejects with the signal's reason. */
  async choice(signal: AbortSignal): Promise<string> {
    const abort = () => {
      this.#choice.reject(signal.reason)
    }
    signal.addEventListener('abort', abort)
    try {
      signal.throwIfAborted()
      return await this.#choice.promise
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await this.#screen?.[Symbol.asyncDispose]()
  }

  #press(key: Key): boolean {
    const step = pressMenuKey(this.#state, key)
    if (step === undefined) return false
    const before = this.#state
    this.#take(step)
    if ('chosen' in step) return true
    // A letter stops the countdown as every key does, and is somebody else's.
    return !isLetter(key) && !isSameView(before, step.state)
  }

  #take(step: MenuStep): void {
    if ('chosen' in step) {
      this.#choice.resolve(step.chosen)
    } else {
      this.#state = step.state
      this.#screen?.update(this.#frame())
    }
  }

  #frame() {
    return menuFrame(this.#state, this.#options)
  }
}

function isLetter(key: Key): boolean {
  return key.kind === 'character' && /[A-Za-z]/.test(key.character)
}

function isSameView(one: MenuState, other: MenuState): boolean {
  return (
    one.highlighted === other.highlighted &&
    one.digits === other.digits &&
    one.secondsLeft === other.secondsLeft
  )
}

/**
 * Asks which of the offers to boot and returns its name. `watch` is given the open menu, to update it
 * while it is up.
 */
export async function chooseVdisk(
  host: ScreenHost,
  options: BootMenuOptions,
  signal: AbortSignal,
  watch: (menu: BootMenu) => void = () => undefined,
): Promise<string> {
  await using menu = await BootMenu.open(host, options)
  watch(menu)
  return await menu.choice(signal)
}
