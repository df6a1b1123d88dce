/** A StateStore in memory, for tests of what stands on it. Values are copied in and out, as JSON would. */
import type {
  StateChange,
  StateCondition,
  StateEntry,
  StateStore,
} from '#server/state/state-store.ts'

export class MemoryStateStore implements StateStore {
  /** How many transactions were tried, and how many of them wrote. */
  tries = 0
  writes = 0
  readonly #entries = new Map<string, StateEntry>()

  async get(key: string): Promise<StateEntry | undefined> {
    return structuredClone(this.#entries.get(key))
  }

  async range(prefix: string): Promise<StateEntry[]> {
    const keys = [...this.#entries.keys()].filter((key) => key.startsWith(prefix)).sort()
    return keys.map((key) => structuredClone(this.#entries.get(key) as StateEntry))
  }

  async transact(
    conditions: readonly StateCondition[],
    changes: readonly StateChange[],
  ): Promise<number | undefined> {
    this.tries += 1
    const holds = conditions.every(
      ({ key, revision }) => (this.#entries.get(key)?.revision ?? 0) === revision,
    )
    if (!holds) return undefined
    this.writes += 1
    const revision = this.writes
    for (const change of changes) {
      const { key } = change
      if (change.type === 'delete') this.#entries.delete(key)
      else this.#entries.set(key, { key, value: structuredClone(change.value), revision })
    }
    return revision
  }

  async close(): Promise<void> {
    // Nothing is open.
  }
}
