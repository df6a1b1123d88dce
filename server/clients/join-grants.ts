/**
 * What an administrator allows beforehand, so that nobody compares a code: tokens that are brought along to
 * a machine, and subnets whose machines are admitted for a while, as on the day a room is set up.
 */
import { createHash, randomBytes } from 'node:crypto'
import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { JOIN_KEYS, type JoinGrantRecord } from '#server/state/records.ts'
import type { StateChange, StateCondition, StateStore } from '#server/state/state-store.ts'
import { transactUntilWritten } from '#server/state/transact-until-written.ts'
import { BootwireError } from '#shared/errors.ts'

/** A person looks after them. */
export const JOIN_GRANTS_MAX = 1000

/** Nobody remembers a token that is older. */
export const JOIN_DAYS_MAX = 366

const TOKEN_PREFIX = 'bwj_'
/** Nobody guesses 256 bits, so a plain hash of them is enough. */
const TOKEN_BYTES = 32

/** What a machine is admitted by. */
export interface JoinGrant {
  readonly record: JoinGrantRecord
  /** Counts the machine; to be written together with its admission. */
  readonly conditions: readonly StateCondition[]
  readonly changes: readonly StateChange[]
}

export interface JoinWish {
  /** How many machines; absent for any number. */
  readonly uses?: number | undefined
  readonly untilMs: number
  readonly vdisks: readonly string[]
}

export class JoinGrants {
  readonly #store: StateStore
  readonly #now: () => number

  constructor(store: StateStore, now: () => number) {
    this.#store = store
    this.#now = now
  }

  /** Returns the token, which nobody can be told again. @throws {BootwireError} INVALID_ARGUMENT, LIMIT_EXCEEDED */
  async createToken(wish: JoinWish): Promise<{ token: string; record: JoinGrantRecord }> {
    const token = TOKEN_PREFIX + randomBytes(TOKEN_BYTES).toString('base64url')
    const record = await this.#add(idOf(token), { kind: 'token' }, wish)
    return { token, record }
  }

  /** @throws {BootwireError} INVALID_ARGUMENT, LIMIT_EXCEEDED */
  async openSubnet(subnet: string, wish: JoinWish): Promise<JoinGrantRecord> {
    blockList(subnet)
    return await this.#add(randomBytes(16).toString('hex'), { kind: 'subnet', subnet }, wish)
  }

  /** Those that are over stay until somebody removes them, so that it can be seen what they did. */
  async list(): Promise<JoinGrantRecord[]> {
    const entries = await this.#store.range(JOIN_KEYS)
    return entries
      .map((entry) => entry.value as JoinGrantRecord)
      .toSorted((a, b) => a.createdAtMs - b.createdAtMs)
  }

  /** By its id, or the beginning of one. @throws {BootwireError} NOT_FOUND, INVALID_ARGUMENT */
  async remove(prefix: string): Promise<JoinGrantRecord> {
    const found = /^[0-9a-f]+$/.test(prefix) ? await this.#store.range(JOIN_KEYS + prefix) : []
    const [entry] = found
    if (entry === undefined || found.length > 1) {
      throw new BootwireError(
        found.length > 1 ? 'INVALID_ARGUMENT' : 'NOT_FOUND',
        `Cannot remove "${prefix}": ${found.length} of the list of "bootwire join ls" begin like this, expected one`,
      )
    }
    await this.#store.transact([], [{ type: 'delete', key: entry.key }])
    return entry.value as JoinGrantRecord
  }

  /** The grant by which a machine with this token, at this address, is admitted now; undefined for none. */
  async find(token: string | undefined, address: string): Promise<JoinGrant | undefined> {
    const byToken = token === undefined ? [] : [await this.#store.get(JOIN_KEYS + idOf(token))]
    const entries = [...byToken, ...(await this.#store.range(JOIN_KEYS))]
    for (const entry of entries) {
      const record = entry?.value as JoinGrantRecord | undefined
      if (entry === undefined || record === undefined || this.isOver(record)) continue
      if (record.kind === 'token' && !byToken.includes(entry)) continue
      if (record.kind === 'subnet' && !contains(record.subnet, address)) continue
      const used = { ...record, used: record.used + 1 }
      return {
        record,
        conditions: [{ key: entry.key, revision: entry.revision }],
        changes: [{ type: 'put', key: entry.key, value: used }],
      }
    }
    return undefined
  }

  /** What keeps a token from admitting anybody, as a sentence; undefined when nothing does. */
  async refusal(token: string): Promise<string | undefined> {
    const entry = await this.#store.get(JOIN_KEYS + idOf(token))
    const record = entry?.value as JoinGrantRecord | undefined
    if (record === undefined) return 'Its join token is not known here'
    if (record.untilMs <= this.#now()) return 'Its join token has expired'
    return this.isOver(record) ? 'Its join token was used as often as it may be' : undefined
  }

  isOver({ untilMs, uses, used }: JoinGrantRecord): boolean {
    return untilMs <= this.#now() || (uses !== undefined && used >= uses)
  }

  async #add(
    id: string,
    kind: { kind: 'token' } | { kind: 'subnet'; subnet: string },
    { uses, untilMs, vdisks }: JoinWish,
  ): Promise<JoinGrantRecord> {
    const nowMs = this.#now()
    if (untilMs <= nowMs || untilMs > nowMs + JOIN_DAYS_MAX * 86_400_000) {
      throw new BootwireError(
        'INVALID_ARGUMENT',
        `Cannot admit machines for so long: expected more than nothing, and at most ${JOIN_DAYS_MAX} days`,
      )
    }
    const record: JoinGrantRecord = {
      id,
      ...kind,
      ...(uses !== undefined && { uses }),
      used: 0,
      untilMs,
      vdisks,
      createdAtMs: nowMs,
    }
    return await transactUntilWritten(this.#store, async () => {
      if ((await this.#store.range(JOIN_KEYS)).length >= JOIN_GRANTS_MAX) {
        throw new BootwireError(
          'LIMIT_EXCEEDED',
          `Cannot add another: there are ${JOIN_GRANTS_MAX}; "bootwire join rm" removes those that are over`,
        )
      }
      return {
        conditions: [{ key: JOIN_KEYS + id, revision: 0 }],
        changes: [{ type: 'put', key: JOIN_KEYS + id, value: record }],
        result: record,
      }
    })
  }
}

/** 32 hex digits: enough to tell them apart, and nothing that a token can be made of. */
function idOf(token: string): string {
  return createHash('sha256').update(token).digest('hex').slice(0, 32)
}

function contains(subnet: string, address: string): boolean {
  return blockList(subnet).check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
}

/** `10.0.0.0/24`, or an address. @throws {BootwireError} INVALID_ARGUMENT */
function blockList(subnet: string): BlockList {
  const [address = '', length] = subnet.split('/')
  const list = new BlockList()
  const family = isIPv4(address) ? 'ipv4' : 'ipv6'
  try {
    if (length === undefined) list.addAddress(address, family)
    else list.addSubnet(address, /^\d{1,3}$/.test(length) ? Number(length) : -1, family)
    return list
  } catch (cause) {
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot use the subnet "${subnet}": expected an address and a length, such as 10.0.0.0/24`,
      { cause },
    )
  }
}
