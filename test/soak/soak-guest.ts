/**
 * The inside of a soak (soak.ts): a file system on the product's device, whose files go through what
 * soak-model.ts draws, while agents are killed. After each round everything is read past the page cache and
 * its hash said.
 *
 * usage: soak-guest.ts OPTIONS_FILE   (SoakGuest in JSON)
 */
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type AgentGuest, killAgent, startAgent } from '#test/support/agent-guest.ts'
import { seededRandom } from '#test/support/seeded-random.ts'
import { hashOfFiles, type SoakStep, soakRound } from './soak-model.ts'

export interface SoakGuest extends AgentGuest {
  readonly seed: number
  readonly seconds: number
  /** Mean pause between two agents that are killed. */
  readonly killEverySeconds: number
}

const MOUNT = '/run/soak'
const FOLDER = join(MOUNT, 'soak')
/** A commit now and then, as a database does. */
const SYNC_SHARE = 0.2

if (import.meta.main) await run()

async function run(): Promise<void> {
  const [, , path] = process.argv
  const options = JSON.parse(readFileSync(path ?? '', 'utf8')) as SoakGuest
  await startAgent(options)
  mkdirSync(MOUNT)
  const mounted = spawnSync('mount', ['-t', 'ext4', '/dev/nbd0', MOUNT], { encoding: 'utf8' })
  if (mounted.status !== 0) throw new Error(mounted.stderr)
  mkdirSync(FOLDER)
  const endMs = performance.now() + options.seconds * 1000
  const killing = killAgents(options, endMs)
  for (let round = 0; performance.now() < endMs; round += 1) {
    await makeRound(options.seed, round)
    writeFileSync('/proc/sys/vm/drop_caches', '3')
    process.stdout.write(`ROUND ${round} ${hashOfFolder()}\n`)
  }
  await killing
  const unmounted = spawnSync('umount', [MOUNT], { encoding: 'utf8' })
  const checked = spawnSync('e2fsck', ['-fn', '/dev/nbd0'], { encoding: 'utf8' })
  process.stdout.write(`END umount ${unmounted.status} e2fsck ${checked.status}\n`)
}

async function killAgents({ seed, killEverySeconds }: SoakGuest, endMs: number): Promise<void> {
  const random = seededRandom(seed + 1)
  for (;;) {
    const pauseMs = random() * 2 * killEverySeconds * 1000
    if (performance.now() + pauseMs > endMs) return
    await sleep(pauseMs)
    process.stdout.write('FAULT agent killed\n')
    killAgent()
  }
}

async function makeRound(seed: number, round: number): Promise<void> {
  const random = seededRandom(seed + 2 + round)
  for (const step of soakRound(seed, round, lengthOf)) {
    make(step, random() < SYNC_SHARE)
    // Calls that wait for the disk stand still here: let timers run.
    await sleep(0)
  }
}

function make(step: SoakStep, isSynced: boolean): void {
  const path = join(FOLDER, step.name)
  switch (step.kind) {
    case 'write':
    case 'truncate': {
      const fd = openSync(path, lengthOf(step.name) === undefined ? 'w+' : 'r+')
      try {
        if (step.kind === 'write') writeSync(fd, step.bytes, 0, step.bytes.length, step.at)
        else ftruncateSync(fd, step.length)
        if (isSynced) fsyncSync(fd)
      } finally {
        closeSync(fd)
      }
      return
    }
    case 'rename':
      return renameSync(path, join(FOLDER, step.to))
    case 'remove':
      return rmSync(path)
  }
}

function lengthOf(name: string): number | undefined {
  return statSync(join(FOLDER, name), { throwIfNoEntry: false })?.size
}

function hashOfFolder(): string {
  return hashOfFiles(readdirSync(FOLDER), (name) => readFileSync(join(FOLDER, name)))
}
