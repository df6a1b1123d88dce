/**
 * Puts a measured program ahead of what else the machine does, so that a busy machine disturbs it
 * less. Servers and clients alike; who is not root goes without, and `nice` says so.
 */

const NICENESS = -15

/** Returns program and arguments of the same command with a higher priority. */
export function ahead(command: readonly string[]): [program: string, args: string[]] {
  return ['nice', ['-n', String(NICENESS), ...command]]
}
