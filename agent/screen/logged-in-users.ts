/**
 * Tells people who are logged in elsewhere than on a console, as wall(1) does: their terminals stand in
 * utmp(5). Seen from the agent, which lives in a mount namespace of its own: /dev and /run of the system are
 * reached through its first process, and neither lies on the root that may be waiting.
 */
import { close, constants, open, readFileSync, write } from 'node:fs'
import { basename, join } from 'node:path'

/** struct utmp of glibc on x86-64: type i16, process i32, line, … */
const RECORD_BYTES = 384
const LINE_AT = 8
const LINE_BYTES = 32
const USER_PROCESS = 7

/** What a terminal is called below /dev; whatever else stands there is no terminal. */
const TERMINAL = /^(?:pts\/\d+|tty[A-Za-z]*\d+)$/

/** Nobody has more terminals open; a file that says so is wrong. */
const USERS_MAX = 256

export class LoggedInUsers {
  readonly #root: string
  readonly #consoles: ReadonlySet<string>

  /** `consolePaths` hear of everything already. `root` is only given by tests. */
  constructor(consolePaths: readonly string[], root: string = '/proc/1/root') {
    this.#root = root
    this.#consoles = new Set(consolePaths.map((path) => basename(path)))
  }

  /** Returns at once; a terminal that is stopped or gone is left alone. */
  tell(text: string): void {
    const bytes = Buffer.from(`\r\nbootwire: ${text}\r\n`)
    for (const terminal of this.#terminals()) {
      if (!this.#consoles.has(terminal)) writeTo(join(this.#root, 'dev', terminal), bytes)
    }
  }

  #terminals(): Set<string> {
    const terminals = new Set<string>()
    const records = this.#read()
    for (let at = 0; at + RECORD_BYTES <= records.length; at += RECORD_BYTES) {
      if (records.readInt16LE(at) !== USER_PROCESS) continue
      const line = records.toString('latin1', at + LINE_AT, at + LINE_AT + LINE_BYTES)
      const terminal = line.split('\0', 1)[0] ?? ''
      if (TERMINAL.test(terminal) && terminals.size < USERS_MAX) terminals.add(terminal)
    }
    return terminals
  }

  #read(): Buffer {
    try {
      return readFileSync(join(this.#root, 'run/utmp'))
    } catch {
      return Buffer.alloc(0) // a system without it has nobody to tell
    }
  }
}

function writeTo(path: string, bytes: Buffer): void {
  const flags = constants.O_WRONLY | constants.O_NOCTTY | constants.O_NONBLOCK
  open(path, flags, (error, fd) => {
    if (error !== null) return
    write(fd, bytes, () => close(fd, () => undefined))
  })
}
