/**
 * npm run soak: mixed work on a file system over the product's device, with a fault drawn at random every few
 * seconds, and what is in the files checked against a model on this side. What is drawn comes from a seed,
 * which is printed: the same seed makes the same steps and faults again.
 *
 *   --minutes N    how long (60)
 *   --place P      where what is written lies: ram, or server, which keeps it (one after the other)
 *   --seed N       default: by the time
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { FaultSite } from '#test/support/fault-site.ts'
import { seededRandom } from '#test/support/seeded-random.ts'
import type { UmlMachine } from '#test/support/uml-machine.ts'
import { SoakModel } from './soak-model.ts'

export interface SoakOptions {
  readonly minutes: number
  /** Where what is written lies. */
  readonly place: 'ram' | 'server'
  readonly seed: number
}

export interface SoakReport {
  readonly rounds: number
  readonly faults: number
}

/** A fault, and time to mend, and work in between. */
const FAULT_EVERY_SECONDS = 12
const KILL_EVERY_SECONDS = 20
const LOSS_SECONDS_MAX = 8
/** A round waits for what its faults hold up. */
const ROUND_TIMEOUT_MS = 300_000
const KERNEL_ERRORS = /^.*(?:I\/O error|EXT4-fs error|EXT4-fs.*abort|JBD2.*(?:error|abort)).*$/m

/** @throws when a file is not what was written, or anything had an error */
export async function soak({ minutes, place, seed }: SoakOptions): Promise<SoakReport> {
  await using site = await FaultSite.start()
  const kept = place === 'server' ? ['--keep'] : ['--drop']
  await site.run('vdisk', 'write-cache', 'debian', '--place', place, ...kept)
  const seconds = minutes * 60
  const script = join(import.meta.dirname, 'soak-guest.ts')
  const guest = { seed, seconds, killEverySeconds: KILL_EVERY_SECONDS }
  const machine = await site.startGuest('soak', script, guest)
  const stop = new AbortController()
  const faulting = makeFaults(site, seed, stop.signal)
  try {
    const rounds = await checkRounds(machine, seed)
    stop.abort()
    const faults = await faulting
    const killed = machine.console.text.match(/FAULT agent killed/g)?.length ?? 0
    return { rounds, faults: faults + killed }
  } finally {
    stop.abort()
    await faulting.catch(() => undefined)
  }
}

async function checkRounds(machine: UmlMachine, seed: number): Promise<number> {
  const model = new SoakModel()
  for (let round = 0; ; round += 1) {
    const { groups } = await machine.console.expect(
      /ROUND (?<round>\d+) (?<hash>[0-9a-f]{64})\n|END umount (?<umount>\d+) e2fsck (?<e2fsck>\d+)/,
      { timeoutMs: ROUND_TIMEOUT_MS },
    )
    const error = KERNEL_ERRORS.exec(machine.console.text)?.[0]
    if (error !== undefined) throw new Error(`the kernel says: ${error}`)
    if (groups['hash'] === undefined) {
      if (groups['umount'] === '0' && groups['e2fsck'] === '0') return round
      throw new Error(`umount ended with ${groups['umount']}, e2fsck with ${groups['e2fsck']}`)
    }
    if (groups['hash'] !== model.runRound(seed, round)) {
      throw new Error(`the files are not what was written, after round ${round}`)
    }
  }
}

async function makeFaults(site: FaultSite, seed: number, signal: AbortSignal): Promise<number> {
  const random = seededRandom(seed)
  const faults = [
    (seconds: number) => site.killServer(seconds),
    (seconds: number) => site.freezeServer(seconds),
    () => site.resetConnections(),
    (seconds: number) => site.blackHole(seconds),
  ]
  for (let count = 0; ; count += 1) {
    const pauseMs = random() * 2 * FAULT_EVERY_SECONDS * 1000
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined)
    if (signal.aborted) return count
    const fault = faults[Math.floor(random() * faults.length)]
    await fault?.(random() * LOSS_SECONDS_MAX)
  }
}

const PLACES = ['ram', 'server'] as const

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '60' },
      place: { type: 'string' },
      seed: { type: 'string' },
    },
  })
  const seed = Number(values.seed ?? Math.floor(Date.now() / 1000) % 1_000_000)
  const minutes = Number(values.minutes)
  const places = PLACES.filter((it) => values.place === undefined || it === values.place)
  process.stdout.write(`soak of ${minutes} minutes, seed ${seed}\n`)
  for (const place of places) {
    const { rounds, faults } = await soak({ minutes: minutes / places.length, place, seed })
    const what = `${place}: ${rounds} rounds with ${faults} faults`
    process.stdout.write(`${what}, and every file is what was written\n`)
  }
}

if (import.meta.main) await main()
