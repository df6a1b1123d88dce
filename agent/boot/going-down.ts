/**
 * Sees when the running system goes down, and sees to it that it comes to its end: services write as they
 * stop, and read what they need for it, though there may be no room and no server any more.
 */
import { readFileSync } from 'node:fs'
import type { AgentSession } from '../session/agent-session.ts'
import type { RunFolder } from './run-folder.ts'
import type { ServedVdisk } from './served-vdisk.ts'

export interface GoingDownParts {
  readonly runFolder: RunFolder
  readonly session: Pick<AgentSession, 'isOpen'>
  readonly vdisk: Pick<
    ServedVdisk,
    'goDown' | 'failWaiting' | 'isKept' | 'runsAlone' | 'writesWaiting'
  >
  /** Only given by tests. */
  readonly times?: GoingDownTimes
}

export interface GoingDownTimes {
  readonly lookMs: number
  /** A server may be back in a moment, and room may come; a machine must be off within 90 s. */
  readonly patienceMs: number
  /** What is kept for the next boot is worth a longer wait. */
  readonly patienceKeptMs: number
}

const TIMES: GoingDownTimes = { lookMs: 1_000, patienceMs: 10_000, patienceKeptMs: 45_000 }

/** Written by a unit that systemd stops first (keep-root.sh). */
const STOPPING_FILE = 'stopping'
/** systemd runs it as PID 1 at the very end, whoever asked it to. */
const LAST_PROGRAM = /^systemd-shutdow/

/** Goes on until it is disposed of. */
export function watchGoingDown(parts: GoingDownParts): Disposable {
  const { runFolder, session, vdisk, times = TIMES } = parts
  let stuckSinceMs: number | undefined
  let isGoingDown = false
  const look = () => {
    if (!isGoingDown) {
      if (runFolder.read(STOPPING_FILE) === undefined && !isLastProgram()) return
      isGoingDown = true
      vdisk.goDown()
    }
    const nowMs = performance.now()
    const isStuck = vdisk.writesWaiting > 0 || (!session.isOpen && !vdisk.runsAlone)
    if (!isStuck) stuckSinceMs = undefined
    else stuckSinceMs ??= nowMs
    const patienceMs = vdisk.isKept ? times.patienceKeptMs : times.patienceMs
    if (stuckSinceMs !== undefined && nowMs - stuckSinceMs >= patienceMs) vdisk.failWaiting()
  }
  const timer = setInterval(look, times.lookMs).unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

function isLastProgram(): boolean {
  try {
    return LAST_PROGRAM.test(readFileSync('/proc/1/comm', 'utf8'))
  } catch {
    return false
  }
}
