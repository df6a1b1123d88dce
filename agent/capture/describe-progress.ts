import { formatBytes } from '#shared/units.ts'
import type { CaptureProgress } from './capture-disk.ts'

/** How far a capture is, on one line, for a person. */
export function describeProgress(progress: CaptureProgress): string {
  const { stage, note, code, doneBytes, totalBytes, sentBytes } = progress
  if (stage === 'waiting') {
    const wait = `on the server: bootwire capture approve ${code} --name NAME`
    return note === '' ? wait : `${wait} (${note})`
  }
  if (stage === 'sending') {
    const share = `${Math.floor((100 * doneBytes) / totalBytes)} %`
    return `${share}: ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}, ${formatBytes(sentBytes)} sent`
  }
  return note
}
