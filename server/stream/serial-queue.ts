/** Runs pieces of work one after the other, in the order they were added. */
export class SerialQueue {
  readonly #onError: (error: unknown) => void
  #tail: Promise<void> = Promise.resolve()

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError
  }

  add(work: () => Promise<void> | void): void {
    this.#tail = this.#tail.then(async () => {
      try {
        await work()
      } catch (error) {
        this.#onError(error)
      }
    })
  }
}
