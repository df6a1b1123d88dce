/**
 * What was read from or written to the database lately, as the text it is stored in: a session that
 * opens a vDisk reads a dozen entries and some short ranges, and each costs 0.1 to 0.3 ms of the main
 * thread from the database. Holds only what the database holds; who writes says so.
 */

/** Some megabytes. */
const ENTRIES_MAX = 4096

/** The versions of one vDisk, the boots of one client: longer ranges are read when somebody lists. */
const RANGE_ENTRIES_MAX = 64
const RANGES_MAX = 256

export type CachedRow = readonly [key: string, text: string]

export class EntryCache {
  /** Least recently used first, as the ranges. */
  readonly #entries = new Map<string, string>()
  readonly #ranges = new Map<string, readonly CachedRow[]>()

  entry(key: string): string | undefined {
    const text = this.#entries.get(key)
    if (text !== undefined) this.rememberEntry(key, text)
    return text
  }

  range(prefix: string): readonly CachedRow[] | undefined {
    const rows = this.#ranges.get(prefix)
    if (rows !== undefined) this.rememberRange(prefix, rows)
    return rows
  }

  rememberEntry(key: string, text: string): void {
    put(this.#entries, key, text, ENTRIES_MAX)
  }

  rememberRange(prefix: string, rows: readonly CachedRow[]): void {
    if (rows.length <= RANGE_ENTRIES_MAX) put(this.#ranges, prefix, rows, RANGES_MAX)
  }

  /** The database has another text under this key now, or none. */
  changed(key: string, text: string | undefined): void {
    if (text === undefined) this.#entries.delete(key)
    else this.rememberEntry(key, text)
    for (const prefix of this.#ranges.keys())
      if (key.startsWith(prefix)) this.#ranges.delete(prefix)
  }
}

function put<Value>(map: Map<string, Value>, key: string, value: Value, sizeMax: number): void {
  map.delete(key)
  map.set(key, value)
  const [oldest] = map.keys()
  if (map.size > sizeMax && oldest !== undefined) map.delete(oldest)
}
