/** Where the command line writes: results to stdout, everything said beside them to stderr. */
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
    interactive: process.stderr.isTTY === true,
  }
}
