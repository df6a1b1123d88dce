/**
 * The technician's screen over whatever else is shown: checks the chain, again and again, until somebody goes
 * on with the boot.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { LinkReport } from '../diagnosis/chain-check.ts'
import type { Key } from './keys.ts'
import type { Screen } from './screen.ts'
import { type TechnicianView, technicianFrame } from './technician-frame.ts'

/** Where it comes up: `Consoles`, or a fake in tests. */
export interface OverlayHost {
  openOverlay(onKey: (key: Key) => boolean): Promise<Screen>
}

export interface TechnicianOptions {
  /** Who this machine is, by what is known now. */
  readonly about: () => Omit<TechnicianView, 'reports'>
  readonly check: (
    onChange: (reports: readonly LinkReport[]) => void,
  ) => Promise<readonly LinkReport[]>
  readonly restart: () => void
  /** Only given by tests. */
  readonly againAfterMs?: number
}

/** A cable that is put in, a port that is set right: seen without a key. */
const AGAIN_AFTER_MS = 5_000

/** What the person wants who leaves it. */
export type TechnicianWish = 'go on' | 'capture'

/** Returns what somebody wants. */
export async function showTechnicianScreen(
  host: OverlayHost,
  options: TechnicianOptions,
): Promise<TechnicianWish> {
  const { about, check, restart, againAfterMs = AGAIN_AFTER_MS } = options
  const leaving = new AbortController()
  let wish: TechnicianWish = 'go on'
  let wake = Promise.withResolvers<void>()
  const onKey = (key: Key): boolean => {
    const character = key.kind === 'character' ? key.character.toLowerCase() : ''
    if (character === 'b') restart()
    if (character === 'd') wish = 'capture'
    if (['c', 'd'].includes(character) || key.kind === 'escape') leaving.abort()
    if (character !== 'r' && !leaving.signal.aborted) return false
    wake.resolve()
    return true
  }
  await using screen = await host.openOverlay(onKey)
  let isDrawn = false
  const show = (reports: readonly LinkReport[]) => {
    const frame = technicianFrame({ ...about(), reports })
    if (isDrawn) screen.update(frame)
    else screen.draw(frame)
    isDrawn = true
  }
  let last: readonly LinkReport[] = []
  while (!leaving.signal.aborted) {
    wake = Promise.withResolvers()
    // What was known stays until it is known better, so that the screen stands still.
    const before = last
    const checked = check((reports) => show(merge(before, reports)))
    last = (await Promise.race([checked, wake.promise])) ?? last
    if (leaving.signal.aborted) break
    // Whole, for the log of a serial line.
    screen.draw(technicianFrame({ ...about(), reports: last }))
    await Promise.race([sleep(againAfterMs, undefined, { ref: false }), wake.promise])
  }
  return wish
}

function merge(before: readonly LinkReport[], now: readonly LinkReport[]): LinkReport[] {
  return now.map((report, index) =>
    report.state === 'testing' ? (before[index] ?? report) : report,
  )
}
