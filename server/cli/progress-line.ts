/**
 * Shows how far a long piece of work is: on a terminal one line that is written over, with rate and
 * time left; elsewhere a line per stage and one now and then, so that logs stay short.
 */

import type { ImportProgress } from '#server/admin/admin-api.ts'
import { formatBytes } from '#shared/units.ts'
import { formatDuration } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Often enough to look alive, seldom enough to be read. */
const REDRAW_INTERVAL_MS = 200

/** Where nobody watches: often enough to see from a log that it goes on. */
const LOG_INTERVAL_MS = 10_000

const ERASE_LINE = '\r\u001b[K'

export class ProgressLine {
  readonly #terminal: Terminal
  readonly #now: () => number
  #stage = ''
  #stageStartedMs = 0
  #drawnMs = Number.NEGATIVE_INFINITY

  constructor(terminal: Terminal, now: () => number) {
    this.#terminal = terminal
    this.#now = now
  }

  update(progress: ImportProgress): void {
    const nowMs = this.#now()
    const { interactive } = this.#terminal
    const isNewStage = progress.stage !== this.#stage
    if (isNewStage) {
      this.#stage = progress.stage
      this.#stageStartedMs = nowMs
    }
    const interval = interactive ? REDRAW_INTERVAL_MS : LOG_INTERVAL_MS
    if (!isNewStage && nowMs - this.#drawnMs < interval) return
    this.#drawnMs = nowMs
    const text = formatProgress(progress, (nowMs - this.#stageStartedMs) / 1000)
    this.#terminal.err(
      interactive ? `${ERASE_LINE}${text}` : `${isNewStage ? progress.stage : text}\n`,
    )
  }

  /** Takes the line away, so that what is written next stands alone. */
  end(): void {
    if (this.#terminal.interactive && this.#stage !== '') this.#terminal.err(ERASE_LINE)
  }
}

/** `storing: 45 %, 1.35 GiB of 3.00 GiB, 120.0 MiB/s, 14 s left` */
export function formatProgress(progress: ImportProgress, elapsedSeconds: number): string {
  const { stage, doneBytes, totalBytes } = progress
  if (doneBytes === 0 && totalBytes === 0) return stage
  const rate = elapsedSeconds < 1 || doneBytes === 0 ? 0 : doneBytes / elapsedSeconds
  const rateText = rate === 0 ? '' : `, ${formatBytes(Math.round(rate))}/s`
  // Of what comes through a pipe nobody knows the end.
  if (totalBytes === 0) return `${stage}: ${formatBytes(doneBytes)}${rateText}`
  const percent = Math.floor((doneBytes / totalBytes) * 100)
  const amount = `${percent} %, ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`
  const leftSeconds = Math.ceil((totalBytes - doneBytes) / rate)
  return `${stage}: ${amount}${rateText}${rate === 0 ? '' : `, ${formatDuration(leftSeconds)} left`}`
}
