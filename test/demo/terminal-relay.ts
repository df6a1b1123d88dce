/** Joins this terminal with the console of a machine: keys go in, what it shows comes out. */
import type { VirtualMachine } from '#test/support/virtual-machine.ts'

const CTRL_A = 0x01
const KEY_X = 0x78

export interface TerminalRelay extends Disposable {
  /** Settles when the person has pressed Ctrl-A x. */
  readonly quit: Promise<void>
}

/**
 * The terminal is in raw mode until the relay is disposed of, so that every key reaches the machine,
 * Ctrl-C too. Ctrl-A is QEMU's own escape: x after it quits, a second one types it.
 */
export function relayTerminal(machine: VirtualMachine): TerminalRelay {
  const { stdin, stdout } = process
  const quit = Promise.withResolvers<void>()
  let escaped = false
  const onKeys = (keys: Buffer) => {
    const typed: number[] = []
    for (const key of keys) {
      const begins = key === CTRL_A && !escaped
      if (escaped && key === KEY_X) quit.resolve()
      else if (!begins) typed.push(key)
      escaped = begins
    }
    if (typed.length > 0) machine.console.send(Uint8Array.from(typed))
  }
  machine.onOutput((bytes) => stdout.write(bytes))
  if (stdin.isTTY) stdin.setRawMode(true)
  stdin.on('data', onKeys)
  return {
    quit: quit.promise,
    [Symbol.dispose]() {
      stdin.off('data', onKeys)
      stdin.pause()
      if (stdin.isTTY) stdin.setRawMode(false)
    },
  }
}
