/**
 * What may still be expected of a disk. One that cannot be written to is read on; one that hangs is
 * left alone until it answers; one that fails again and again is given up. Each is told once.
 */

/** A bad block or two is a disk's everyday life, and costs the objects there; nothing but errors is its end. */
const READ_ERRORS_MAX = 16

export class CacheHealth {
  readonly #onProblem: (problem: string) => void
  #problem = ''
  #isReadable = true
  #isWritable = true
  #isStalled = false
  #readErrors = 0
  #hasStalled = false

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

  /** A disk that was idle may take 10 s to spin up: it is asked again when it has answered. */
  stalled(error: unknown): void {
    if (this.#isStalled) return
    this.#isStalled = true
    const problem = `The local disk cache is not used: ${textOf(error)}`
    if (this.#hasStalled) this.#problem = problem
    else this.#say(problem)
    this.#hasStalled = true
  }

  /** It answered after all. */
  answered(): void {
    this.#isStalled = false
  }

  readWorked(): void {
    this.#readErrors = 0
  }

  #say(problem: string): void {
    this.#problem = problem
    this.#onProblem(problem)
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
