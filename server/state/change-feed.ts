/** Tells listeners in this process that something changed. Listeners must not throw. */
export class ChangeFeed<Change> {
  readonly #listeners = new Set<(change: Change) => void>()

  /** Returns the function that ends the subscription. */
  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  emit(change: Change): void {
    for (const listener of this.#listeners) listener(change)
  }
}
