/** `bootwire-agent capture`: sends a disk of this machine to the server it booted from. */
import { readFileSync } from 'node:fs'
import { type BootParameters, parseBootParameters } from '#shared/boot/kernel-cmdline.ts'
import { BootwireError } from '#shared/errors.ts'
import { type CaptureProgress, captureDisk } from '../capture/capture-disk.ts'
import { describeProgress } from '../capture/describe-progress.ts'
import { readMachineFacts } from '../machine/read-facts.ts'

/** A line on a log; on a terminal it is written over. */
const LOG_EVERY_MS = 10_000

/** Returns what to say at the end. @throws {BootwireError} as captureDisk does */
export async function captureCommand(path: string): Promise<string> {
  const { servers, pin } = parametersOfThisBoot()
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort())
  const line = new ProgressLine()
  try {
    const note = await captureDisk({
      path,
      servers,
      pin,
      facts: readMachineFacts(''),
      onProgress: (progress) => line.show(progress),
      signal: stop.signal,
    })
    return `\nSent: ${note}`
  } catch (error) {
    if (!stop.signal.aborted) throw error
    return '\nStopped. Begun again, it goes on with what the server has.'
  }
}

function parametersOfThisBoot(): BootParameters {
  try {
    return parseBootParameters(readFileSync('/proc/cmdline', 'utf8').trim())
  } catch (cause) {
    throw new BootwireError(
      'CAPTURE_IMPOSSIBLE',
      'Cannot capture: this machine was not started by bootwire, so there is no server it would trust. Start it from the network or a stick, and press T, then D',
      { cause },
    )
  }
}

class ProgressLine {
  #last = ''
  #shownAtMs = -Infinity

  show(progress: CaptureProgress): void {
    const text = describeProgress(progress)
    if (text === this.#last) return
    const now = performance.now()
    const isNewStage = this.#last === '' || progress.stage !== 'sending'
    if (!process.stdout.isTTY && !isNewStage && now - this.#shownAtMs < LOG_EVERY_MS) return
    this.#last = text
    this.#shownAtMs = now
    process.stdout.write(process.stdout.isTTY ? `\r\x1b[K${text}` : `${text}\n`)
  }
}
