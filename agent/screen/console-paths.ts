/** Which terminals are consoles of this machine, by the kernel's own list. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Names separated by spaces, `tty0 ttyS0`: those of `console=` that exist. */
const ACTIVE_CONSOLES = '/sys/class/tty/console/active'

/** What the kernel calls its last console, when it does not say which there are. */
const ANY_CONSOLE = '/dev/console'

export function activeConsolePaths(listPath: string = ACTIVE_CONSOLES): string[] {
  const names = readNames(listPath)
  return names.length === 0 ? [ANY_CONSOLE] : names.map((name) => join('/dev', name))
}

function readNames(listPath: string): string[] {
  try {
    return readFileSync(listPath, 'utf8')
      .split(/\s+/)
      .filter((name) => name !== '')
  } catch {
    return []
  }
}
