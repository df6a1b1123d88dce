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
import type { StateChange, StateCondition, StateEntry, StateStore } from './state-store.ts'

const ENTRY_PREFIX = 'e/'
const REVISION_KEY = 'm/revision'
/** Sorts after every key that starts with a prefix: keys are plain text, this is no character of it. */
const AFTER_PREFIX = '\uffff'

/**
 * Entries kept in memory, some megabytes: a session that opens a vDisk reads a dozen, and each costs
 * 0.1 ms of the main thread from the database.
 */
const CACHED_ENTRIES_MAX = 4096

interface StoredEntry {
  readonly value: unknown
  readonly revision: number
}

type Database = Level<string, unknown>
type Operation =
  | { readonly type: 'put'; readonly key: string; readonly value: unknown }
  | { readonly type: 'del'; readonly key: string }

export class LevelStateStore implements StateStore {
  readonly #database: Database
  #revision: number
  #last: Promise<unknown> = Promise.resolve()
  /** What the database has under these keys, as it is stored; least recently read first. */
  readonly #cache = new Map<string, string>()

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
    const cached = this.#cache.get(key)
    if (cached !== undefined) this.#remember(key, cached)
    const text = cached ?? (await this.#read(key))
    return text === undefined ? undefined : { key, ...(JSON.parse(text) as StoredEntry) }
  }

  async #read(key: string): Promise<string | undefined> {
    const revision = this.#revision
    const options = { valueEncoding: 'utf8' } as const
    const text = (await this.#database.get(ENTRY_PREFIX + key, options)) as string | undefined
    // What was read while a transaction ended may be older than what that wrote.
    if (text !== undefined && revision === this.#revision) this.#remember(key, text)
    return text
  }

  async range(prefix: string): Promise<StateEntry[]> {
    const first = ENTRY_PREFIX + prefix
    const rows = await this.#database.iterator({ gte: first, lt: first + AFTER_PREFIX }).all()
    return rows.map(([key, stored]) => ({
      key: key.slice(ENTRY_PREFIX.length),
      ...(stored as StoredEntry),
    }))
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
    await this.#write(changes, revision)
    this.#revision = revision
    for (const { key } of changes) this.#cache.delete(key)
    return revision
  }

  #remember(key: string, text: string): void {
    this.#cache.delete(key)
    this.#cache.set(key, text)
    const [oldest] = this.#cache.keys()
    if (this.#cache.size > CACHED_ENTRIES_MAX && oldest !== undefined) this.#cache.delete(oldest)
  }

  async #write(changes: readonly StateChange[], revision: number): Promise<void> {
    const batch: Operation[] = [{ type: 'put', key: REVISION_KEY, value: revision }]
    for (const change of changes) {
      const key = ENTRY_PREFIX + change.key
      if (change.type === 'delete') batch.push({ type: 'del', key })
      else batch.push({ type: 'put', key, value: { value: change.value, revision } })
    }
    await this.#database.batch(batch, { sync: true })
  }
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
