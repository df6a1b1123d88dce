/**
 * How a terminal hands on what is typed: `raw`, every key at once and unseen, for a screen; `sane`,
 * by lines and shown, for a shell.
 *
 * Set by `stty` and not by `tty.ReadStream.setRawMode`. Both wait until the line has sent what was
 * written before, and on a line that its other end has stopped (XOFF, or no clear-to-send) they wait
 * for as long as that lasts. A child can be killed; the agent's main thread stood still. `sane` is
 * named instead of restoring what was found, since an agent that was killed leaves a raw terminal to
 * the next. It leaves XON/XOFF off, as `raw` does: noise on an open line is not to stop it.
 */
import { execFile } from 'node:child_process'

export type TerminalMode = 'raw' | 'sane'

/** A screenful needs 0.2 s at 115200 baud, 2 s at 9600. */
const TIMEOUT_MS = 3_000

const SETTINGS = {
  // Output as ever: the kernel and others write lines there too.
  raw: ['raw', '-echo', '-iexten', 'opost', 'onlcr'],
  sane: ['sane'],
} as const satisfies Record<TerminalMode, readonly string[]>

/** Returns false when the terminal could not be set in time; it is as it was, then. */
export async function setTerminalMode(path: string, mode: TerminalMode): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const options = { timeout: TIMEOUT_MS, killSignal: 'SIGKILL' } as const
  execFile('stty', ['-F', path, ...SETTINGS[mode]], options, (error) => {
    resolve(error === null)
  })
  return await promise
}
