/**
 * The clients this server knows. Who a machine is (client-matching.ts) and what becomes of unknown
 * ones (unknown-policy.ts) is decided elsewhere; here it is looked up and written down.
 *
 * Every record has index entries for its MACs, UUID and host name, written in the same transaction
 * under the condition that nobody else has them: two clients never share one, whichever order
 * requests come in and however many servers write.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { Log } from '#server/log.ts'
import { ChangeFeed } from '#server/state/change-feed.ts'
import {
  CLIENT_HOSTNAME_KEYS,
  CLIENT_KEYS,
  CLIENT_MAC_KEYS,
  CLIENT_UNCONFIRMED_KEYS,
  CLIENT_UUID_KEYS,
  type ClientRecord,
  NEXT_HOSTNAME_NUMBER_KEY,
} from '#server/state/records.ts'
import type { StateChange, StateCondition, StateStore } from '#server/state/state-store.ts'
import { type Attempt, transactUntilWritten } from '#server/state/transact-until-written.ts'
import { BootwireError } from '#shared/errors.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import { assertHostName } from '#shared/names.ts'
import type { Hydration } from '#shared/wire/messages.ts'
import { withAssignments, withoutAssignments } from './client-changes.ts'
import {
  chooseClient,
  isAnonymous,
  mergeFacts,
  normalizeMac,
  usableFacts,
} from './client-matching.ts'
import { hostnameFor } from './hostname-pattern.ts'
import { hydrationOf } from './hydration.ts'
import { admissionOf, type UnknownPolicy } from './unknown-policy.ts'
import { type WriteCacheWish, withWriteCache } from './write-cache-settings.ts'

/**
 * Clients nobody has decided about. They register themselves, so their number is bounded: a large
 * site fits ten times, and a machine that invents MAC addresses fills a few megabytes.
 */
export const UNCONFIRMED_CLIENTS_MAX = 10_000

/** `lastSeenMs` is this exact: a machine that connects again and again must not cost a write each time. */
const LAST_SEEN_STEP_MS = 60_000

/** Shortest beginning of an id that names a client; shorter ones are more likely mistakes. */
const ID_PREFIX_LENGTH_MIN = 3

export interface ClientRegistryOptions {
  readonly store: StateStore
  readonly policy: UnknownPolicy
  readonly hostnamePattern: string
  /** True when the client has a session right now. */
  readonly isRunning: (clientId: string) => boolean
  readonly now: () => number
  readonly log: Log
  readonly unconfirmedMax?: number
}

interface FoundClient {
  readonly client: ClientRecord
  readonly revision: number
}

export class ClientRegistry {
  /** Emits the id of every client that was changed or removed by administration. */
  readonly changes = new ChangeFeed<string>()
  readonly #store: StateStore
  readonly #options: ClientRegistryOptions
  /** Tail of the queue of transactions. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: ClientRegistryOptions) {
    this.#store = options.store
    this.#options = options
  }

  /**
   * Returns the client this machine is, registered by the policy for unknown clients if it is new.
   * @throws {BootwireError} MESSAGE_INVALID when nothing tells the machine from others;
   * LIMIT_EXCEEDED when too many clients wait for a decision already
   */
  async identify(reported: MachineFacts, address: string): Promise<ClientRecord> {
    const facts = usableFacts(reported)
    if (isAnonymous(facts)) {
      throw new BootwireError(
        'MESSAGE_INVALID',
        'Cannot tell which machine this is: it reports no MAC address and no UUID of its own',
      )
    }
    const before = await this.#match(facts)
    try {
      return await this.#transact(async () => {
        const known = await this.#match(facts)
        return known === undefined
          ? await this.#register(facts, address)
          : await this.#seeAgain(known, facts, address)
      })
    } catch (error) {
      if (before === undefined || error instanceof BootwireError) throw error
      // A root may run on this machine: a full disk here must not keep it from coming back.
      this.#options.log.error({ err: error }, 'cannot note that a client was seen')
      return before.client
    }
  }

  /** Whether an administrator has decided about a client, not a policy. */
  async isConfirmed(id: string): Promise<boolean> {
    return (await this.#store.get(CLIENT_UNCONFIRMED_KEYS + id)) === undefined
  }

  async get(id: string): Promise<ClientRecord | undefined> {
    return (await this.#load(id))?.client
  }

  async list(): Promise<ClientRecord[]> {
    const entries = await this.#store.range(CLIENT_KEYS)
    return entries.map((entry) => entry.value as ClientRecord)
  }

  /**
   * Finds a client by id, host name, MAC address or the beginning of its id.
   * @throws {BootwireError} NOT_FOUND, INVALID_ARGUMENT when several ids begin like this
   */
  async find(selector: string): Promise<ClientRecord> {
    const text = selector.trim().toLowerCase()
    const mac = normalizeMac(text)
    const exact =
      (await this.get(text)) ??
      (await this.#byIndex(CLIENT_HOSTNAME_KEYS + text)) ??
      (mac === undefined ? undefined : await this.#byIndex(CLIENT_MAC_KEYS + mac))
    return exact ?? (await this.#byPrefix(text))
  }

  approve(id: string): Promise<ClientRecord> {
    return this.#decide(id, (client) => ({ ...client, state: 'approved' }))
  }

  refuse(id: string): Promise<ClientRecord> {
    return this.#decide(id, (client) => ({ ...client, state: 'refused' }))
  }

  /** Adds vDisks at the end of the client's menu; with `only`, they replace what was assigned. */
  assign(
    id: string,
    vdisks: readonly string[],
    options: { readonly only: boolean },
  ): Promise<ClientRecord> {
    return this.#change(id, (client) => withAssignments(client, vdisks, options))
  }

  unassign(id: string, vdisks: readonly string[]): Promise<ClientRecord> {
    return this.#change(id, (client) => withoutAssignments(client, vdisks))
  }

  /** Sets how the rest of the client's vDisk is fetched; what is not said stays. */
  setHydration(id: string, wish: Partial<Hydration>): Promise<ClientRecord> {
    return this.#change(id, (client) => ({
      ...client,
      hydration: { ...hydrationOf(client), ...wish },
    }))
  }

  /**
   * Sets where the client keeps what it writes; what is not said stays.
   * @throws {BootwireError} INVALID_ARGUMENT
   */
  setWriteCache(id: string, wish: WriteCacheWish): Promise<ClientRecord> {
    return this.#change(id, ({ writeCache, ...client }) => ({
      ...client,
      ...withWriteCache(writeCache, wish),
    }))
  }

  /** Something is kept for the client over this version, which its next boots get. */
  async keepVersion(id: string, vdisk: string, versionId: string): Promise<void> {
    const client = await this.get(id)
    if (client === undefined || client.keptVersions?.[vdisk] === versionId) return
    const keep = (it: ClientRecord) => ({
      ...it,
      keptVersions: { ...it.keptVersions, [vdisk]: versionId },
    })
    await this.#change(id, keep, { silent: true })
  }

  /** Nothing is kept for the client over this vDisk any more. */
  forgetKept(id: string, vdisk: string): Promise<ClientRecord> {
    return this.#change(id, ({ keptVersions, ...client }) => {
      const left = Object.entries(keptVersions ?? {}).filter(([name]) => name !== vdisk)
      return left.length === 0 ? client : { ...client, keptVersions: Object.fromEntries(left) }
    })
  }

  /** Keeps the choice as the default of the next menu. A client removed meanwhile is left alone. */
  async rememberChoice(id: string, vdisk: string): Promise<void> {
    if ((await this.get(id)) === undefined) return
    await this.#change(id, (client) => ({ ...client, lastChoice: vdisk }), { silent: true })
  }

  /** @throws {BootwireError} INVALID_ARGUMENT, ALREADY_EXISTS, NOT_FOUND */
  async rename(id: string, hostname: string): Promise<ClientRecord> {
    assertHostName(hostname)
    const renamed = await this.#transact(async () => {
      const found = await this.#require(id)
      const client = { ...found.client, hostname }
      if (hostname === found.client.hostname) return unchanged(client)
      if ((await this.#store.get(CLIENT_HOSTNAME_KEYS + hostname)) !== undefined) {
        throw new BootwireError(
          'ALREADY_EXISTS',
          `Cannot rename client "${found.client.hostname}" to "${hostname}": another client has this name`,
        )
      }
      return {
        conditions: [atRevision(found), absent(CLIENT_HOSTNAME_KEYS + hostname)],
        changes: [
          put(CLIENT_KEYS + id, client),
          remove(CLIENT_HOSTNAME_KEYS + found.client.hostname),
          put(CLIENT_HOSTNAME_KEYS + hostname, id),
        ],
        result: client,
      }
    })
    this.changes.emit(id)
    return renamed
  }

  /** Forgets the client with its name and machine-id; the same machine is new when it comes again. */
  async remove(id: string): Promise<void> {
    await this.#transact(async () => {
      const found = await this.#require(id)
      const indexes = [CLIENT_HOSTNAME_KEYS + found.client.hostname, CLIENT_UNCONFIRMED_KEYS + id]
      indexes.push(...(await this.#ownIndexes(found.client)))
      return {
        conditions: [atRevision(found)],
        changes: [remove(CLIENT_KEYS + id), ...indexes.map(remove)],
        result: undefined,
      }
    })
    this.changes.emit(id)
  }

  /**
   * One after the other within this server: when a site is switched on, a thousand new clients at
   * once would otherwise fight for the next host name. Conditions guard against other servers.
   */
  #transact<Result>(attempt: () => Promise<Attempt<Result>>): Promise<Result> {
    const result = this.#last.then(() => transactUntilWritten(this.#store, attempt))
    this.#last = result.catch(() => undefined) // whoever asked is told; the queue goes on
    return result
  }

  async #match(facts: MachineFacts): Promise<FoundClient | undefined> {
    const byMac = await this.#byIndexes(facts.macs.map((mac) => CLIENT_MAC_KEYS + mac))
    const byUuid =
      facts.uuid === undefined ? undefined : await this.#byIndex(CLIENT_UUID_KEYS + facts.uuid)
    const chosen = chooseClient(facts, byMac, byUuid, this.#options.isRunning)
    return chosen === undefined ? undefined : await this.#load(chosen.id)
  }

  async #register(facts: MachineFacts, address: string): Promise<Attempt<ClientRecord>> {
    const unconfirmed = await this.#store.range(CLIENT_UNCONFIRMED_KEYS)
    const max = this.#options.unconfirmedMax ?? UNCONFIRMED_CLIENTS_MAX
    if (unconfirmed.length >= max) {
      throw new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot register another client: ${max} wait for a decision of the administrator already`,
      )
    }
    const name = await this.#nextHostname(facts)
    const nowMs = this.#options.now()
    const client: ClientRecord = {
      id: randomBytes(8).toString('hex'),
      ...admissionOf(this.#options.policy),
      hostname: name.hostname,
      // Made like a version 4 UUID, as machine-id(5) asks for.
      machineId: randomUUID().replaceAll('-', ''),
      facts,
      firstSeenMs: nowMs,
      lastSeenMs: nowMs,
      address,
    }
    const indexes = await this.#freeIndexes(client)
    return {
      conditions: [
        name.condition,
        absent(CLIENT_HOSTNAME_KEYS + client.hostname),
        ...indexes.map(absent),
      ],
      changes: [
        put(NEXT_HOSTNAME_NUMBER_KEY, name.nextNumber),
        put(CLIENT_KEYS + client.id, client),
        put(CLIENT_UNCONFIRMED_KEYS + client.id, nowMs),
        ...[CLIENT_HOSTNAME_KEYS + client.hostname, ...indexes].map((key) => put(key, client.id)),
      ],
      result: client,
    }
  }

  async #seeAgain(
    { client: known, revision }: FoundClient,
    facts: MachineFacts,
    address: string,
  ): Promise<Attempt<ClientRecord>> {
    const unconfirmed = await this.#store.get(CLIENT_UNCONFIRMED_KEYS + known.id)
    const nowMs = this.#options.now()
    const client: ClientRecord = {
      ...known,
      // A policy changed since counts for those who still wait; it takes nothing from anybody.
      ...(unconfirmed !== undefined &&
        known.state !== 'approved' &&
        admissionOf(this.#options.policy)),
      facts: mergeFacts(known.facts, facts),
      lastSeenMs: nowMs - known.lastSeenMs < LAST_SEEN_STEP_MS ? known.lastSeenMs : nowMs,
      address,
    }
    if (isDeepStrictEqual(client, known)) return unchanged(known)
    const added = await this.#freeIndexes(client)
    const kept = new Set(indexKeys(client))
    const dropped = (await this.#ownIndexes(known)).filter((key) => !kept.has(key))
    return {
      conditions: [{ key: CLIENT_KEYS + client.id, revision }, ...added.map(absent)],
      changes: [
        put(CLIENT_KEYS + client.id, client),
        ...added.map((key) => put(key, client.id)),
        ...dropped.map(remove),
      ],
      result: client,
    }
  }

  async #nextHostname(facts: MachineFacts): Promise<{
    readonly hostname: string
    readonly nextNumber: number
    readonly condition: StateCondition
  }> {
    const entry = await this.#store.get(NEXT_HOSTNAME_NUMBER_KEY)
    const condition = { key: NEXT_HOSTNAME_NUMBER_KEY, revision: entry?.revision ?? 0 }
    let taken = false
    for (let number = (entry?.value as number | undefined) ?? 1; ; number += 1) {
      const hostname = hostnameFor(this.#options.hostnamePattern, number, facts.macs[0], taken)
      if ((await this.#store.get(CLIENT_HOSTNAME_KEYS + hostname)) === undefined) {
        return { hostname, nextNumber: number + 1, condition }
      }
      taken = true
    }
  }

  /** An administrator has decided: the client is no longer one of the unconfirmed. */
  #decide(id: string, change: (client: ClientRecord) => ClientRecord): Promise<ClientRecord> {
    return this.#change(id, change, { confirms: true })
  }

  async #change(
    id: string,
    change: (client: ClientRecord) => ClientRecord,
    options: { readonly confirms?: boolean; readonly silent?: boolean } = {},
  ): Promise<ClientRecord> {
    const changed = await this.#transact(async () => {
      const found = await this.#require(id)
      const client = change(found.client)
      const changes: StateChange[] = [put(CLIENT_KEYS + id, client)]
      if (options.confirms === true) changes.push(remove(CLIENT_UNCONFIRMED_KEYS + id))
      return { conditions: [atRevision(found)], changes, result: client }
    })
    if (options.silent !== true) this.changes.emit(id)
    return changed
  }

  async #load(id: string): Promise<FoundClient | undefined> {
    const entry = await this.#store.get(CLIENT_KEYS + id)
    return entry && { client: entry.value as ClientRecord, revision: entry.revision }
  }

  async #require(id: string): Promise<FoundClient> {
    const found = await this.#load(id)
    if (found === undefined) throw noClient(id)
    return found
  }

  async #byIndex(key: string): Promise<ClientRecord | undefined> {
    const entry = await this.#store.get(key)
    return entry === undefined ? undefined : await this.get(entry.value as string)
  }

  async #byIndexes(keys: readonly string[]): Promise<ClientRecord[]> {
    const found = await Promise.all(keys.map((key) => this.#byIndex(key)))
    return found.filter((client) => client !== undefined)
  }

  async #byPrefix(prefix: string): Promise<ClientRecord> {
    const isPrefix = prefix.length >= ID_PREFIX_LENGTH_MIN && /^[0-9a-f]+$/.test(prefix)
    const entries = isPrefix ? await this.#store.range(CLIENT_KEYS + prefix) : []
    const [first, ...others] = entries.map((entry) => entry.value as ClientRecord)
    if (first === undefined) throw noClient(prefix)
    if (others.length === 0) return first
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `Cannot tell which client "${prefix}" is: ${others.length + 1} ids begin like this, expected one`,
    )
  }

  /** Index keys of the client that nobody has yet. */
  async #freeIndexes(client: ClientRecord): Promise<string[]> {
    return await this.#indexesWhere(client, (owner) => owner === undefined)
  }

  /** Index keys that lead to this client; what it reported may lead to another. */
  async #ownIndexes(client: ClientRecord): Promise<string[]> {
    return await this.#indexesWhere(client, (owner) => owner === client.id)
  }

  async #indexesWhere(
    client: ClientRecord,
    accepts: (owner: unknown) => boolean,
  ): Promise<string[]> {
    const keys = indexKeys(client)
    const entries = await Promise.all(keys.map((key) => this.#store.get(key)))
    return keys.filter((_, index) => accepts(entries[index]?.value))
  }
}

function indexKeys({ facts }: ClientRecord): string[] {
  const macs = facts.macs.map((mac) => CLIENT_MAC_KEYS + mac)
  return facts.uuid === undefined ? macs : [...macs, CLIENT_UUID_KEYS + facts.uuid]
}

function unchanged<Result>(result: Result): Attempt<Result> {
  return { conditions: [], changes: [], result }
}

function atRevision({ client, revision }: FoundClient): StateCondition {
  return { key: CLIENT_KEYS + client.id, revision }
}

function absent(key: string): StateCondition {
  return { key, revision: 0 }
}

function put(key: string, value: unknown): StateChange {
  return { type: 'put', key, value }
}

function remove(key: string): StateChange {
  return { type: 'delete', key }
}

function noClient(selector: string): BootwireError {
  return new BootwireError(
    'NOT_FOUND',
    `Cannot find client "${selector}": expected an id, the beginning of one (${ID_PREFIX_LENGTH_MIN} digits or more), a host name or a MAC address`,
  )
}
