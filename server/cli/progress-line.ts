/**
 * Shows how far a long piece of work is: on a terminal one line that is written over, with rate and
 * time left; elsewhere a line per stage, so that logs stay short.
 */

import type { ImportProgress } from '#server/admin/admin-api.ts'
import { formatBytes } from '#shared/units.ts'
import { formatDuration } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Often enough to look alive, seldom enough to be read. */
const REDRAW_INTERVAL_MS = 200

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
    const newStage = progress.stage !== this.#stage
    if (newStage) {
      this.#stage = progress.stage
      this.#stageStartedMs = nowMs
    }
    if (!this.#terminal.interactive) {
      if (newStage) this.#terminal.err(`${progress.stage}\n`)
      return
    }
    if (!newStage && nowMs - this.#drawnMs < REDRAW_INTERVAL_MS) return
    this.#drawnMs = nowMs
    const elapsedSeconds = (nowMs - this.#stageStartedMs) / 1000
    this.#terminal.err(`${ERASE_LINE}${formatProgress(progress, elapsedSeconds)}`)
  }

  /** Takes the line away, so that what is written next stands alone. */
  end(): void {
    if (this.#terminal.interactive && this.#stage !== '') this.#terminal.err(ERASE_LINE)
  }
}

/** `reading: 45 %, 1.35 GiB of 3.00 GiB, 120.0 MiB/s, 14 s left` */
export function formatProgress(progress: ImportProgress, elapsedSeconds: number): string {
  const { stage, doneBytes, totalBytes } = progress
  if (totalBytes === 0) return stage
  const percent = Math.floor((doneBytes / totalBytes) * 100)
  const amount = `${stage}: ${percent} %, ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`
  if (elapsedSeconds < 1 || doneBytes === 0) return amount
  const bytesPerSecond = doneBytes / elapsedSeconds
  const left = formatDuration(Math.ceil((totalBytes - doneBytes) / bytesPerSecond))
  return `${amount}, ${formatBytes(bytesPerSecond)}/s, ${left} left`
}
