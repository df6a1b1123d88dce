/**
 * What may still be expected of a disk. One that cannot be written to is read on; one that hangs is
 * left alone until it answers; one that fails again and again is given up. Each is told once.
 */

/** A bad block or two is a disk's everyday life, and costs the objects there. */
const READ_ERRORS_MAX = 16

/** A disk that stood still this often (an idle one may take 10 s to spin up) is in nobody's way any more. */
const STALLS_MAX = 5

export class CacheHealth {
  readonly #onProblem: (problem: string) => void
  #problem = ''
  #isReadable = true
  #isWritable = true
  #isStalled = false
  #readErrors = 0
  #stalls = 0

  /** `onProblem` is called once for each thing that gets worse, with a sentence. */
  constructor(onProblem: (problem: string) => void) {
    this.#onProblem = onProblem
  }

  get isReadable(): boolean {
    return this.#isReadable
  }

  get isWritable(): boolean {
    return this.#isWritable && this.#isReadable
  }

  /** It does not answer just now. */
  get isStalled(): boolean {
    return this.#isStalled
  }

  get isGood(): boolean {
    return this.#isReadable && this.#isWritable && !this.#isStalled
  }

  /** A sentence; empty when nothing is wrong. */
  get problem(): string {
    return this.isGood ? '' : this.#problem
  }

  readFailed(error: unknown): void {
    this.#readErrors += 1
    if (this.#readErrors < READ_ERRORS_MAX || !this.#isReadable) return
    this.#isReadable = false
    this.#say(`The local disk cache cannot be read and is not used any more: ${textOf(error)}`)
  }

  writeFailed(error: unknown): void {
    if (!this.isWritable) return
    this.#isWritable = false
    this.#say(`The local disk cache cannot be written and keeps nothing new: ${textOf(error)}`)
  }

  stalled(error: unknown): void {
    if (this.#isStalled || !this.#isReadable) return
    this.#isStalled = true
    this.#stalls += 1
    if (this.#stalls >= STALLS_MAX) this.#isReadable = false
    // Once: what comes and goes would be told without end.
    if (this.#stalls === 1 || !this.#isReadable) {
      this.#say(`The local disk cache is not used: ${textOf(error)}`)
    }
  }

  /** It answered after all. */
  recovered(): void {
    this.#isStalled = false
  }

  #say(problem: string): void {
    this.#problem = problem
    this.#onProblem(problem)
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
