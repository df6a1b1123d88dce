/** Waits for a condition that nothing announces. */
import { setTimeout } from 'node:timers/promises'

const STEP_MS = 10

/** Returns once `check` is true; throws when it does not become so in time. */
export async function eventually(
  what: string,
  check: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  for (const giveUpMs = performance.now() + timeoutMs; performance.now() < giveUpMs; ) {
    if (await check()) return
    await setTimeout(STEP_MS)
  }
  throw new Error(`waited ${timeoutMs} ms in vain: ${what}`)
}
