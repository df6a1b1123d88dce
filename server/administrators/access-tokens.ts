/**
 * Who may administer this server from afar: a name, a role, and a token that only its holder knows. Kept is
 * its SHA-256; nobody guesses 256 random bits, so a plain hash of them is enough.
 */
import { createHash, randomBytes } from 'node:crypto'
import { ACCESS_TOKEN_KEYS, type AccessTokenRecord } from '#server/state/records.ts'
import type { StateStore } from '#server/state/state-store.ts'
import { transactUntilWritten } from '#server/state/transact-until-written.ts'
import { BootwireError } from '#shared/errors.ts'
import type { TokenRole } from './roles.ts'

/** A person looks after them. */
export const ACCESS_TOKENS_MAX = 1000

/** Tokens that are not renewed are forgotten about, and lie around. */
export const ACCESS_DAYS_MAX = 3660

const TOKEN_PREFIX = 'bwa_'
const TOKEN_BYTES = 32

/** They stand in every line of the audit log. */
const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/

export interface AccessWish {
  readonly name: string
  readonly role: TokenRole
  /** Absent for no end. */
  readonly untilMs?: number | undefined
  readonly createdBy: string
}

export class AccessTokens {
  readonly #store: StateStore
  readonly #now: () => number

  constructor(store: StateStore, now: () => number) {
    this.#store = store
    this.#now = now
  }

  /**
   * Returns the token, which nobody can be told again.
   * @throws {BootwireError} INVALID_ARGUMENT, ALREADY_EXISTS, LIMIT_EXCEEDED
   */
  async create(wish: AccessWish): Promise<{ token: string; record: AccessTokenRecord }> {
    const { name, role, untilMs, createdBy } = wish
    assertName(name)
    const nowMs = this.#now()
    assertEnd(untilMs, nowMs)
    const token = TOKEN_PREFIX + randomBytes(TOKEN_BYTES).toString('base64url')
    const record: AccessTokenRecord = {
      id: idOf(token),
      name,
      role,
      createdAtMs: nowMs,
      createdBy,
      ...(untilMs !== undefined && { untilMs }),
    }
    const key = ACCESS_TOKEN_KEYS + record.id
    return await transactUntilWritten(this.#store, async () => {
      const all = await this.list()
      if (all.some((other) => other.name === name)) {
        throw new BootwireError(
          'ALREADY_EXISTS',
          `Cannot add "${name}": there is one of this name; "bootwire admin rm ${name}" ends its token`,
        )
      }
      if (all.length >= ACCESS_TOKENS_MAX) {
        throw new BootwireError(
          'LIMIT_EXCEEDED',
          `Cannot add another: there are ${ACCESS_TOKENS_MAX}; "bootwire admin rm" ends those nobody needs`,
        )
      }
      return {
        conditions: [{ key, revision: 0 }],
        changes: [{ type: 'put', key, value: record }],
        result: { token, record },
      }
    })
  }

  /** In order of their names. */
  async list(): Promise<AccessTokenRecord[]> {
    const entries = await this.#store.range(ACCESS_TOKEN_KEYS)
    return entries
      .map(({ value }) => value as AccessTokenRecord)
      .toSorted((a, b) => a.name.localeCompare(b.name, 'en'))
  }

  /** Counts from the next request on. @throws {BootwireError} NOT_FOUND */
  async remove(name: string): Promise<AccessTokenRecord> {
    const record = (await this.list()).find((other) => other.name === name)
    if (record === undefined) {
      throw new BootwireError(
        'NOT_FOUND',
        `Cannot remove "${name}": no administrator has this name`,
      )
    }
    const key = ACCESS_TOKEN_KEYS + record.id
    await this.#store.transact([], [{ type: 'delete', key }])
    return record
  }

  /** Whose token this is; undefined when it is nobody's, or its time is over. */
  async check(token: string): Promise<AccessTokenRecord | undefined> {
    const entry = await this.#store.get(ACCESS_TOKEN_KEYS + idOf(token))
    const record = entry?.value as AccessTokenRecord | undefined
    return record === undefined || this.isOver(record) ? undefined : record
  }

  isOver({ untilMs }: AccessTokenRecord): boolean {
    return untilMs !== undefined && untilMs <= this.#now()
  }
}

function assertName(name: string): void {
  if (NAME.test(name)) return
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot use the name "${name}": expected 1 to 63 of a-z, 0-9, ".", "_" and "-", beginning with a letter or digit`,
  )
}

function assertEnd(untilMs: number | undefined, nowMs: number): void {
  if (untilMs === undefined) return
  if (untilMs > nowMs && untilMs <= nowMs + ACCESS_DAYS_MAX * 86_400_000) return
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot give access for so long: expected more than nothing, and at most ${ACCESS_DAYS_MAX} days`,
  )
}

/** The whole of SHA-256, hex: what lies in the database is of no use to who reads it. */
function idOf(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}
