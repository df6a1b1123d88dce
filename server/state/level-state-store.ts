/**
 * The embedded database: one LevelDB folder, opened by one process at a time.
 *
 * Layout: `e/<key>` holds `{ value, revision }` as JSON, `m/revision` the number of the last change.
 * Both are written in one synced batch, so a revision never lies behind the entries that carry it.
 *
 * Concurrency: transactions run one after the other (`#last` is the tail of the queue), so that a
 * condition still holds when its changes are written. Reads do not wait for them. Nobody else writes,
 * so entries read before are as good as the database's until a transaction writes their key.
 */
import { Level } from 'level'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import { type CachedRow, EntryCache } from './entry-cache.ts'
import type { StateChange, StateCondition, StateEntry, StateStore } from './state-store.ts'

const ENTRY_PREFIX = 'e/'
const REVISION_KEY = 'm/revision'
/** Sorts after every key that starts with a prefix: keys are plain text, this is no character of it. */
const AFTER_PREFIX = '\uffff'

/** Entries are JSON; they are kept as text, here and in the cache. */
const AS_TEXT = { valueEncoding: 'utf8' } as const

interface StoredEntry {
  readonly value: unknown
  readonly revision: number
}

type Database = Level<string, unknown>
type Operation =
  | { readonly type: 'put'; readonly key: string; readonly value: string }
  | { readonly type: 'del'; readonly key: string }

export class LevelStateStore implements StateStore {
  readonly #database: Database
  #revision: number
  #last: Promise<unknown> = Promise.resolve()
  readonly #cache = new EntryCache()

  private constructor(database: Database, revision: number) {
    this.#database = database
    this.#revision = revision
  }

  /** @throws {BootwireError} DATABASE_IN_USE, STATE_UNREADABLE */
  static async open(folder: string): Promise<LevelStateStore> {
    const database: Database = new Level(folder, { valueEncoding: 'json' })
    try {
      await database.open()
    } catch (error) {
      throw openFailure(folder, error)
    }
    const revision = (await database.get(REVISION_KEY)) ?? 0
    invariant(typeof revision === 'number', 'the revision counter is not a number')
    return new LevelStateStore(database, revision)
  }

  async get(key: string): Promise<StateEntry | undefined> {
    const text = this.#cache.entry(key) ?? (await this.#read(key))
    return text === undefined ? undefined : entryOf([key, text])
  }

  async range(prefix: string): Promise<StateEntry[]> {
    const rows = this.#cache.range(prefix) ?? (await this.#readRange(prefix))
    return rows.map(entryOf)
  }

  transact(
    conditions: readonly StateCondition[],
    changes: readonly StateChange[],
  ): Promise<number | undefined> {
    const result = this.#last.then(() => this.#apply(conditions, changes))
    this.#last = result.catch(() => undefined) // whoever asked is told; the queue goes on
    return result
  }

  async close(): Promise<void> {
    await this.#last
    await this.#database.close()
  }

  async #apply(
    conditions: readonly StateCondition[],
    changes: readonly StateChange[],
  ): Promise<number | undefined> {
    const entries = await Promise.all(conditions.map((condition) => this.get(condition.key)))
    const holds = conditions.every(
      (condition, index) => (entries[index]?.revision ?? 0) === condition.revision,
    )
    if (!holds) return undefined
    const revision = this.#revision + 1
    const rows = changes.map((change): [key: string, text: string | undefined] => {
      if (change.type === 'delete') return [change.key, undefined]
      return [change.key, JSON.stringify({ value: change.value, revision })]
    })
    await this.#write(rows, revision)
    this.#revision = revision
    for (const [key, text] of rows) this.#cache.changed(key, text)
    return revision
  }

  async #read(key: string): Promise<string | undefined> {
    const revision = this.#revision
    const text = await this.#database.get<string, string>(ENTRY_PREFIX + key, AS_TEXT)
    // What was read while a transaction ended may be older than what that wrote.
    if (text !== undefined && revision === this.#revision) this.#cache.rememberEntry(key, text)
    return text
  }

  async #readRange(prefix: string): Promise<CachedRow[]> {
    const revision = this.#revision
    const first = ENTRY_PREFIX + prefix
    const bounds = { gte: first, lt: first + AFTER_PREFIX, ...AS_TEXT }
    const found = (await this.#database.iterator(bounds).all()) as CachedRow[]
    const rows = found.map(([key, text]): CachedRow => [key.slice(ENTRY_PREFIX.length), text])
    if (revision === this.#revision) this.#cache.rememberRange(prefix, rows)
    return rows
  }

  async #write(
    rows: readonly (readonly [key: string, text: string | undefined])[],
    revision: number,
  ): Promise<void> {
    const batch: Operation[] = [{ type: 'put', key: REVISION_KEY, value: `${revision}` }]
    for (const [key, text] of rows) {
      if (text === undefined) batch.push({ type: 'del', key: ENTRY_PREFIX + key })
      else batch.push({ type: 'put', key: ENTRY_PREFIX + key, value: text })
    }
    await this.#database.batch(batch, { sync: true, ...AS_TEXT })
  }
}

function entryOf([key, text]: CachedRow): StateEntry {
  return { key, ...(JSON.parse(text) as StoredEntry) }
}

function openFailure(folder: string, error: unknown): BootwireError {
  const cause = error instanceof Error ? error.cause : undefined
  if (cause instanceof Error && 'code' in cause && cause.code === 'LEVEL_LOCKED') {
    return new BootwireError(
      'DATABASE_IN_USE',
      `Cannot open the database in "${folder}": another process has it open`,
      { cause: error },
    )
  }
  const why = cause instanceof Error ? cause.message : String(error)
  return new BootwireError('STATE_UNREADABLE', `Cannot open the database in "${folder}": ${why}`, {
    cause: error,
  })
}
