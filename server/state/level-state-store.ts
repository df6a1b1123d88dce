/**
 * The embedded database: one LevelDB folder, opened by one process at a time.
 *
 * Layout: `e/<key>` holds `{ value, revision }` as JSON, `m/revision` the number of the last change.
 * Both are written in one synced batch, so a revision never lies behind the entries that carry it.
 *
 * Concurrency: transactions run one after the other (`#last` is the tail of the queue), so that a
 * condition still holds when its changes are written. Reads do not wait for them.
 */
import { Level } from 'level'
import { BootwireError } from '#shared/errors.ts'
import { invariant } from '#shared/invariant.ts'
import type { StateChange, StateCondition, StateEntry, StateStore } from './state-store.ts'

const ENTRY_PREFIX = 'e/'
const REVISION_KEY = 'm/revision'
/** Sorts after every key that starts with a prefix: keys are plain text, this is no character of it. */
const AFTER_PREFIX = '\uffff'

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
    const stored = (await this.#database.get(ENTRY_PREFIX + key)) as StoredEntry | undefined
    return stored === undefined ? undefined : { key, ...stored }
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
    return revision
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
