/**
 * What a soak does to a folder of files, drawn from a seed: the same steps for who makes them on a disk and
 * for who keeps them in memory. After each round both tell a hash of all there is.
 */
import { createHash } from 'node:crypto'
import { KiB } from '#shared/units.ts'
import { seededRandom } from '#test/support/seeded-random.ts'

export type SoakStep =
  | { readonly kind: 'write'; readonly name: string; readonly at: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly name: string; readonly length: number }
  | { readonly kind: 'rename'; readonly name: string; readonly to: string }
  | { readonly kind: 'remove'; readonly name: string }

/** Enough that files are written over, few enough that their blocks meet. */
const NAMES = 40
const STEPS_PER_ROUND = 60
const WRITE_BYTES_MAX: number = 256 * KiB
const FILE_BYTES_MAX: number = 2048 * KiB

/** The steps of one round; asks which files there are. */
export function* soakRound(
  seed: number,
  round: number,
  lengthOf: (name: string) => number | undefined,
): Generator<SoakStep> {
  const random = seededRandom(seed * 1_000_003 + round)
  const pick = (below: number) => Math.floor(random() * below)
  for (let step = 0; step < STEPS_PER_ROUND; step += 1) {
    const name = `file-${pick(NAMES)}`
    const length = lengthOf(name)
    const kind = random()
    if (length === undefined || kind < 0.7) {
      const at = pick(Math.min(length ?? 0, FILE_BYTES_MAX - WRITE_BYTES_MAX) + 1)
      const fill = `round ${round} step ${step} `
      const bytes = Buffer.alloc(1 + pick(random() < 0.5 ? 4 * KiB : WRITE_BYTES_MAX), fill)
      yield { kind: 'write', name, at, bytes }
    } else if (kind < 0.8) yield { kind: 'truncate', name, length: pick(length + 1) }
    else if (kind < 0.9) yield { kind: 'rename', name, to: `file-${pick(NAMES)}` }
    else yield { kind: 'remove', name }
  }
}

/** Files in memory. */
export class SoakModel {
  readonly files = new Map<string, Buffer>()

  apply(step: SoakStep): void {
    const file = this.files.get(step.name)
    switch (step.kind) {
      case 'write': {
        const length = Math.max(file?.length ?? 0, step.at + step.bytes.length)
        const written = Buffer.alloc(length)
        file?.copy(written)
        step.bytes.copy(written, step.at)
        this.files.set(step.name, written)
        return
      }
      case 'truncate':
        this.files.set(step.name, (file ?? Buffer.alloc(0)).subarray(0, step.length))
        return
      case 'rename':
        if (file === undefined || step.name === step.to) return
        this.files.delete(step.name)
        this.files.set(step.to, file)
        return
      case 'remove':
        this.files.delete(step.name)
        return
    }
  }

  runRound(seed: number, round: number): string {
    for (const step of soakRound(seed, round, (name) => this.files.get(name)?.length)) {
      this.apply(step)
    }
    return hashOfFiles([...this.files.keys()], (name) => this.files.get(name) ?? Buffer.alloc(0))
  }
}

export function hashOfFiles(names: readonly string[], read: (name: string) => Buffer): string {
  const hash = createHash('sha256')
  for (const name of names.toSorted()) {
    const bytes = read(name)
    hash.update(`${name} ${bytes.length}\n`).update(bytes)
  }
  return hash.digest('hex')
}
