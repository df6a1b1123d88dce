/** Where the command line writes: results to stdout, everything said beside them to stderr. */
import { isatty } from 'node:tty'

export interface Terminal {
  out(text: string): void
  err(text: string): void
  /** True when a person watches stderr. */
  readonly interactive: boolean
}

export function processTerminal(): Terminal {
  return {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    interactive: isatty(process.stderr.fd),
  }
}
