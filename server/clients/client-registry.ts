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
  CLIENT_KEY_KEYS,
  CLIENT_KEYS,
  CLIENT_MAC_KEYS,
  CLIENT_STAND_IN_KEYS,
  CLIENT_UNCONFIRMED_KEYS,
  CLIENT_UUID_KEYS,
  type ClientRecord,
  type DeviceKeyRecord,
  NEXT_HOSTNAME_NUMBER_KEY,
  REVOKED_KEY_KEYS,
  type RevokedKeyRecord,
} from '#server/state/records.ts'
import type { StateChange, StateCondition, StateStore } from '#server/state/state-store.ts'
import { type Attempt, transactUntilWritten } from '#server/state/transact-until-written.ts'
import { BootwireError } from '#shared/errors.ts'
import type { KeyPlace } from '#shared/identity/device-key.ts'
import type { MachineFacts } from '#shared/identity/machine-facts.ts'
import { assertHostName } from '#shared/names.ts'
import { ASSIGNMENTS_MAX } from '#shared/wire/limits.ts'
import type { Hydration } from '#shared/wire/messages.ts'
import { withAssignments, withoutAssignments } from './client-changes.ts'
import {
  type ClientMatch,
  chooseClient,
  compareFacts,
  isAnonymous,
  mergeFacts,
  normalizeMac,
  usableFacts,
} from './client-matching.ts'
import { hostnameFor } from './hostname-pattern.ts'
import { hydrationOf } from './hydration.ts'
import type { JoinGrant, JoinGrants } from './join-grants.ts'
import { type Admission, admissionOf, type UnknownPolicy } from './unknown-policy.ts'
import { type WriteCacheWish, withWriteCache } from './write-cache-settings.ts'

/**
 * Clients nobody has decided about. They register themselves, so their number is bounded: a large
 * site fits ten times, and a machine that invents MAC addresses fills a few megabytes.
 */
export const UNCONFIRMED_CLIENTS_MAX = 10_000

const UNCONFIRMED_COUNT_MS = 10_000

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
  /** Whom an administrator admits beforehand. */
  readonly grants?: Pick<JoinGrants, 'find' | 'refusal'>
}

/** A key that a machine has proven to have on its connection. */
export interface ProvenKey {
  readonly fingerprint: string
  readonly place: KeyPlace
}

/** Who an agent is. */
export interface Admitted {
  readonly client: ClientRecord
  /** It has proven to be this client, by a key that was vouched for. */
  readonly isAuthenticated: boolean
  /** Its key counts no more. */
  readonly revoked?: RevokedKeyRecord
  /** Why the token that it brought along does not admit it: a sentence. */
  readonly joinRefusal?: string
}

interface FoundClient {
  readonly client: ClientRecord
  readonly revision: number
}

/** Whether a machine is that client, and by what. */
interface RecognisedClient extends FoundClient, Pick<ClientMatch, 'kind'> {
  readonly knownBy: readonly string[]
}

export class ClientRegistry {
  /** Emits the id of every client that was changed or removed by administration. */
  readonly changes = new ChangeFeed<string>()
  readonly #store: StateStore
  readonly #options: ClientRegistryOptions
  #unconfirmed = { count: 0, atMs: Number.NEGATIVE_INFINITY }
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
    assertTellable(facts)
    const before = await this.#match(facts)
    try {
      return await this.#transact(async () => {
        const known = await this.#match(facts)
        const sight = { facts, address }
        if (known === undefined) return await this.#register(sight)
        return known.kind === 'unsure'
          ? await this.#standIn(known.client, { ...sight, knownBy: known.knownBy })
          : await this.#seeAgain(known, { ...sight, knownBy: known.knownBy })
      })
    } catch (error) {
      if (before === undefined || error instanceof BootwireError) throw error
      // A root may run on this machine: a full disk here must not keep it from coming back.
      this.#options.log.error({ err: error }, 'cannot note that a client was seen')
      return before.client
    }
  }

  /** Whether a machine may be a client, and somebody has to say. Firmware knows too little; its agent knows more. */
  async isUnsure(reported: MachineFacts): Promise<boolean> {
    return (await this.#match(usableFacts(reported)))?.kind === 'unsure'
  }

  /**
   * Returns the client an agent is: the one that its key belongs to, else the one that it claims to be,
   * unless that one has a key of its own: then it is another client, which waits for the administrator.
   * @throws {BootwireError} as `identify`
   */
  async admit(
    reported: MachineFacts,
    address: string,
    key: ProvenKey | undefined,
    joinToken?: string,
  ): Promise<Admitted> {
    const facts = usableFacts(reported)
    if (key === undefined) assertTellable(facts)
    const before = await this.#recognise(facts, key)
    const admitted = (client: ClientRecord): Admitted => ({
      client,
      isAuthenticated: key !== undefined && client.key?.fingerprint === key.fingerprint,
    })
    try {
      const revoked = key && (await this.#store.get(REVOKED_KEY_KEYS + key.fingerprint))
      if (revoked !== undefined) return await this.#revoked(revoked.value as RevokedKeyRecord)
      const sight = { facts, address, key, joinToken }
      const client = await this.#transact(async () => {
        const known = await this.#recognise(facts, key)
        if (known === undefined) return await this.#register(sight)
        const mayBeAnother = known.kind === 'unsure' || isImpostor(known.client, key)
        return mayBeAnother
          ? await this.#standIn(known.client, {
              ...sight,
              knownBy: known.knownBy,
              isImpostor: isImpostor(known.client, key),
            })
          : await this.#seeAgain(known, { ...sight, knownBy: known.knownBy })
      })
      const isWaiting = client.state !== 'approved' && joinToken !== undefined
      const joinRefusal = isWaiting ? await this.#options.grants?.refusal(joinToken) : undefined
      return { ...admitted(client), ...(joinRefusal !== undefined && { joinRefusal }) }
    } catch (error) {
      if (before === undefined || error instanceof BootwireError) throw error
      if (before.kind === 'unsure' || isImpostor(before.client, key)) throw error
      // A root may run on this machine: a full disk here must not keep it from coming back.
      this.#options.log.error({ err: error }, 'cannot note that a client was seen')
      return admitted(before.client)
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

  /**
   * Admits a client, and vouches for the key with this fingerprint, if one is given.
   * @throws {BootwireError} INVALID_ARGUMENT when it shows another key by now
   */
  async approve(id: string, fingerprint?: string): Promise<ClientRecord> {
    const before = await this.get(id)
    const own = before === undefined ? [] : await this.#ownIndexes(before)
    // A MAC or a UUID of its own tells it from the client that it may be; without one it is found by that alone.
    const isAnother = own.some((key) => !key.startsWith(CLIENT_KEY_KEYS))
    return await this.#decide(id, (client) => {
      const { claimsToBe, ...vouched } =
        fingerprint === undefined ? client : vouchedFor(client, fingerprint)
      return {
        ...vouched,
        ...(claimsToBe !== undefined && !isAnother && { claimsToBe }),
        state: 'approved',
      }
    })
  }

  /**
   * A machine that came as a new one is this client, with another network card, board or whole machine: the
   * client has what that one reports from now on, and that one is gone.
   * @throws {BootwireError} NOT_FOUND, INVALID_ARGUMENT; IN_USE while the client runs
   */
  async confirm(id: string, standInId: string): Promise<ClientRecord> {
    const confirmed = await this.#transact(async () => {
      const found = await this.#require(id)
      const standIn = await this.#require(standInId)
      assertAdoptable(found.client, standIn.client)
      // Its own machine would come back as a new one, with a root that waits.
      if (this.#options.isRunning(id)) {
        throw new BootwireError(
          'IN_USE',
          `Cannot give client "${found.client.hostname}" to another machine: it runs right now`,
        )
      }
      const { facts, address } = standIn.client
      const { knownBy: _former, ...known } = found.client
      const client: ClientRecord = {
        ...known,
        facts,
        knownBy: ['confirmed by an administrator'],
        ...(address !== undefined && { address }),
      }
      const former = (await this.#ownIndexes(found.client)).filter(
        (key) => !key.startsWith(CLIENT_KEY_KEYS),
      )
      const taken = await this.#ownIndexes(standIn.client)
      const gone = [CLIENT_HOSTNAME_KEYS + standIn.client.hostname, CLIENT_KEYS + standInId]
      gone.push(CLIENT_UNCONFIRMED_KEYS + standInId)
      const { claimsToBe } = standIn.client
      if (claimsToBe !== undefined) gone.push(CLIENT_STAND_IN_KEYS + claimsToBe)
      const kept = former.filter((key) => indexKeys(client).includes(key))
      return {
        conditions: [atRevision(found), atRevision(standIn)],
        changes: [
          ...[...gone, ...former.filter((key) => !kept.includes(key))].map(remove),
          put(CLIENT_KEYS + id, client),
          ...[...kept, ...taken].map((key) => put(key, id)),
        ],
        result: client,
      }
    })
    this.changes.emit(id)
    this.changes.emit(standInId)
    return confirmed
  }

  refuse(id: string): Promise<ClientRecord> {
    return this.#decide(id, (client) => ({ ...client, state: 'refused' }))
  }

  /**
   * The client's key counts no more, nor does the machine get anything again before it is approved with
   * another one.
   */
  async revoke(id: string, { cut }: { readonly cut: boolean }): Promise<ClientRecord> {
    const revoked = await this.#transact(async () => {
      const found = await this.#require(id)
      const { key, offeredKey, ...rest } = found.client
      const client: ClientRecord = { ...rest, state: 'refused' }
      const record: RevokedKeyRecord = { clientId: id, atMs: this.#options.now(), cut }
      const prints = [key, offeredKey].flatMap((it) => (it === undefined ? [] : [it.fingerprint]))
      return {
        conditions: [atRevision(found)],
        changes: [
          put(CLIENT_KEYS + id, client),
          remove(CLIENT_UNCONFIRMED_KEYS + id),
          ...prints.flatMap((print) => [
            remove(CLIENT_KEY_KEYS + print),
            put(REVOKED_KEY_KEYS + print, record),
          ]),
        ],
        result: client,
      }
    })
    this.changes.emit(id)
    return revoked
  }

  /**
   * The machine that claims to be the client is it, with a new key; its former key counts no more.
   * @throws {BootwireError} NOT_FOUND, INVALID_ARGUMENT
   */
  async replaceKey(id: string, standInId: string): Promise<ClientRecord> {
    const replaced = await this.#transact(async () => {
      const found = await this.#require(id)
      const standIn = await this.#require(standInId)
      const { offeredKey } = standIn.client
      if (standIn.client.claimsToBe !== id || offeredKey === undefined) {
        throw new BootwireError(
          'INVALID_ARGUMENT',
          `Cannot give client "${found.client.hostname}" the key of "${standIn.client.hostname}": expected a machine that claims to be it, and has a key`,
        )
      }
      const { key: former } = found.client
      const sinceMs = this.#options.now()
      const client: ClientRecord = { ...found.client, key: { ...offeredKey, sinceMs } }
      const gone = [CLIENT_HOSTNAME_KEYS + standIn.client.hostname, CLIENT_STAND_IN_KEYS + id]
      gone.push(CLIENT_UNCONFIRMED_KEYS + standInId, CLIENT_KEYS + standInId)
      return {
        conditions: [atRevision(found), atRevision(standIn)],
        changes: [
          ...gone.map(remove),
          put(CLIENT_KEYS + id, client),
          put(CLIENT_KEY_KEYS + offeredKey.fingerprint, id),
          ...(former === undefined
            ? []
            : [
                remove(CLIENT_KEY_KEYS + former.fingerprint),
                put(REVOKED_KEY_KEYS + former.fingerprint, {
                  clientId: id,
                  atMs: sinceMs,
                  cut: false,
                } satisfies RevokedKeyRecord),
              ]),
        ],
        result: client,
      }
    })
    this.changes.emit(id)
    this.changes.emit(standInId)
    return replaced
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
      const { claimsToBe } = found.client
      if (claimsToBe !== undefined) indexes.push(CLIENT_STAND_IN_KEYS + claimsToBe)
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

  async #match(facts: MachineFacts): Promise<RecognisedClient | undefined> {
    const byMac = await this.#byIndexes(facts.macs.map((mac) => CLIENT_MAC_KEYS + mac))
    const byUuid =
      facts.uuid === undefined ? [] : await this.#byIndexes([CLIENT_UUID_KEYS + facts.uuid])
    const chosen = chooseClient(facts, [...byMac, ...byUuid], this.#options.isRunning)
    const found = chosen && (await this.#load(chosen.client.id))
    if (chosen === undefined || found === undefined) return undefined
    return { ...found, kind: chosen.kind, knownBy: chosen.likeness.reasons }
  }

  /** By its key, else by what it claims. */
  async #recognise(
    facts: MachineFacts,
    key: ProvenKey | undefined,
  ): Promise<RecognisedClient | undefined> {
    const owner = key && (await this.#store.get(CLIENT_KEY_KEYS + key.fingerprint))
    const byKey = owner && (await this.#load(owner.value as string))
    if (byKey !== undefined) return { ...byKey, kind: 'same', knownBy: ['its key'] }
    return isAnonymous(facts) ? undefined : await this.#match(facts)
  }

  async #revoked(revoked: RevokedKeyRecord): Promise<Admitted> {
    const client = await this.get(revoked.clientId)
    if (client !== undefined) return { client, isAuthenticated: false, revoked }
    throw new BootwireError('KEY_REVOKED', 'Cannot admit this machine: its key was revoked')
  }

  /** One for each client: whoever else claims to be it finds that one. */
  async #standIn({ id }: ClientRecord, sight: Sight): Promise<Attempt<ClientRecord>> {
    const entry = await this.#store.get(CLIENT_STAND_IN_KEYS + id)
    const known = entry && (await this.#load(entry.value as string))
    if (known !== undefined && !(await this.#isClone(known.client, sight))) {
      return await this.#seeAgain(known, sight)
    }
    if (known !== undefined) return await this.#register({ ...sight, knownBy: undefined })
    // A policy that admits whoever comes vouches for new machines, which this one may not be.
    const { conditions, changes, result } = await this.#register({ ...sight, claimsToBe: id })
    return {
      conditions: [
        ...conditions,
        { key: CLIENT_STAND_IN_KEYS + id, revision: entry?.revision ?? 0 },
      ],
      changes: [...changes, put(CLIENT_STAND_IN_KEYS + id, result.id)],
      result,
    }
  }

  /** Like a machine that runs right now, and another: they are two. Impostors are all one. */
  async #isClone(standIn: ClientRecord, { facts, isImpostor: isLying }: Sight): Promise<boolean> {
    if (isLying === true || !this.#options.isRunning(standIn.id)) return false
    if (compareFacts(standIn.facts, facts).hasSameMac) return false
    // Without a MAC of its own it could not be found again.
    const owners = await Promise.all(
      facts.macs.map((mac) => this.#store.get(CLIENT_MAC_KEYS + mac)),
    )
    return owners.includes(undefined)
  }

  async #register({
    facts,
    address,
    key,
    joinToken,
    claimsToBe,
    knownBy,
  }: Sight & { readonly claimsToBe?: string }): Promise<Attempt<ClientRecord>> {
    const max = this.#options.unconfirmedMax ?? UNCONFIRMED_CLIENTS_MAX
    if ((await this.#countUnconfirmed(max)) >= max) {
      throw new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot register another client: ${max} wait for a decision of the administrator already`,
      )
    }
    const name = await this.#nextHostname(facts)
    const nowMs = this.#options.now()
    const offered = key && { ...key, sinceMs: nowMs }
    const grant = claimsToBe === undefined ? await this.#grantFor(joinToken, address) : undefined
    const admission = grant?.admission ?? admissionOf(this.#options.policy)
    // A policy that admits whoever comes vouches for new machines, not for those that claim to be others.
    const isVouchedFor = admission.state === 'approved' && claimsToBe === undefined
    const client: ClientRecord = {
      id: randomBytes(8).toString('hex'),
      ...admission,
      ...(offered && (isVouchedFor ? { key: offered } : { offeredKey: offered })),
      ...(claimsToBe !== undefined && { claimsToBe }),
      hostname: name.hostname,
      // Made like a version 4 UUID, as machine-id(5) asks for.
      machineId: randomUUID().replaceAll('-', ''),
      facts,
      // A new one is known by what it has shown, from now on.
      knownBy: knownBy ?? compareFacts(facts, facts).reasons,
      firstSeenMs: nowMs,
      lastSeenMs: nowMs,
      address,
    }
    const indexes = await this.#freeIndexes(client)
    return {
      conditions: [
        ...(grant?.conditions ?? []),
        name.condition,
        absent(CLIENT_HOSTNAME_KEYS + client.hostname),
        ...indexes.map(absent),
      ],
      changes: [
        put(NEXT_HOSTNAME_NUMBER_KEY, name.nextNumber),
        put(CLIENT_KEYS + client.id, client),
        // A grant is an administrator's decision.
        ...(grant?.changes ?? [put(CLIENT_UNCONFIRMED_KEYS + client.id, nowMs)]),
        ...[CLIENT_HOSTNAME_KEYS + client.hostname, ...indexes].map((key) => put(key, client.id)),
      ],
      result: client,
    }
  }

  async #seeAgain(
    { client: known, revision }: FoundClient,
    { facts, address, key, joinToken, knownBy }: Sight,
  ): Promise<Attempt<ClientRecord>> {
    const unconfirmed = await this.#store.get(CLIENT_UNCONFIRMED_KEYS + known.id)
    const nowMs = this.#options.now()
    const waits = known.state === 'pending' && known.claimsToBe === undefined
    const grant = waits ? await this.#grantFor(joinToken, address) : undefined
    const shown = key && { ...key, sinceMs: nowMs }
    const client: ClientRecord = {
      ...(grant === undefined ? withOffer(known, shown) : joined(known, grant.admission, shown)),
      // A policy changed since counts for those who still wait; it takes nothing from anybody.
      ...(unconfirmed !== undefined &&
        known.state !== 'approved' &&
        grant === undefined &&
        admissionOf(this.#options.policy)),
      facts: mergeFacts(known.facts, facts),
      // One that may be another keeps the reasons for that.
      ...(known.claimsToBe === undefined && { knownBy: fuller(known.knownBy, knownBy) }),
      lastSeenMs: nowMs - known.lastSeenMs < LAST_SEEN_STEP_MS ? known.lastSeenMs : nowMs,
      address,
    }
    if (isDeepStrictEqual(client, known)) return unchanged(known)
    const added = await this.#freeIndexes(client)
    const kept = new Set(indexKeys(client))
    const dropped = (await this.#ownIndexes(known)).filter((it) => !kept.has(it))
    return {
      conditions: [
        { key: CLIENT_KEYS + client.id, revision },
        ...added.map(absent),
        ...(grant?.conditions ?? []),
      ],
      changes: [
        ...(grant === undefined
          ? []
          : [...grant.changes, remove(CLIENT_UNCONFIRMED_KEYS + client.id)]),
        put(CLIENT_KEYS + client.id, client),
        ...added.map((it) => put(it, client.id)),
        ...dropped.map(remove),
      ],
      result: client,
    }
  }

  /**
   * How many wait for a decision. Counting them all takes milliseconds when there are thousands, so between two
   * counts those registered here are added; near the limit all are counted.
   */
  async #countUnconfirmed(max: number): Promise<number> {
    const nowMs = this.#options.now()
    const { count, atMs } = this.#unconfirmed
    this.#unconfirmed = { count: count + 1, atMs }
    if (nowMs - atMs < UNCONFIRMED_COUNT_MS && count + 1 < max / 2) return count
    const counted = (await this.#store.range(CLIENT_UNCONFIRMED_KEYS)).length
    this.#unconfirmed = { count: counted + 1, atMs: nowMs }
    return counted
  }

  async #grantFor(
    token: string | undefined,
    address: string,
  ): Promise<(JoinGrant & { readonly admission: Admission }) | undefined> {
    const grant = await this.#options.grants?.find(token, address)
    if (grant === undefined) return undefined
    return { ...grant, admission: { state: 'approved', assignments: grant.record.vdisks } }
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
      const { claimsToBe } = found.client
      if (claimsToBe !== undefined && client.claimsToBe === undefined) {
        changes.push(remove(CLIENT_STAND_IN_KEYS + claimsToBe))
      }
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

function indexKeys({ facts, key, offeredKey }: ClientRecord): string[] {
  const macs = facts.macs.map((mac) => CLIENT_MAC_KEYS + mac)
  const keys = [key, offeredKey].flatMap((it) =>
    it === undefined ? [] : [CLIENT_KEY_KEYS + it.fingerprint],
  )
  return facts.uuid === undefined
    ? [...macs, ...keys]
    : [...macs, CLIENT_UUID_KEYS + facts.uuid, ...keys]
}

/** What is seen of a machine when it comes. */
interface Sight {
  readonly facts: MachineFacts
  readonly address: string
  readonly key?: ProvenKey | undefined
  readonly joinToken?: string | undefined
  /** Of the client that it is, or may be. */
  readonly knownBy?: readonly string[] | undefined
  /** It claims to be a client that has a key, and has not shown it. */
  readonly isImpostor?: boolean
}

/** Firmware reports less than an agent, at each boot. */
function fuller(before: readonly string[] = [], now: readonly string[] = []): readonly string[] {
  return now.length >= before.length ? now : before
}

/** Admitted by a grant, which vouches for the key that the machine has. */
function joined(
  { offeredKey, ...known }: ClientRecord,
  { state, assignments }: Admission,
  shown: DeviceKeyRecord | undefined,
): ClientRecord {
  const all = [...new Set([...known.assignments, ...assignments])].slice(0, ASSIGNMENTS_MAX)
  const kept = shown === undefined ? offeredKey && { offeredKey } : { key: shown }
  return { ...known, state, assignments: all, ...kept }
}

function assertAdoptable(client: ClientRecord, standIn: ClientRecord): void {
  const what = `Cannot take the machine "${standIn.hostname}" for client "${client.hostname}"`
  if (client.id === standIn.id)
    throw new BootwireError('INVALID_ARGUMENT', `${what}: it is the same`)
  if (standIn.state === 'approved' && standIn.claimsToBe === undefined) {
    throw new BootwireError(
      'INVALID_ARGUMENT',
      `${what}: expected one that waits; this one is approved as a client of its own`,
    )
  }
  if (standIn.offeredKey === undefined && client.key === undefined) return
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `${what}: one of them has a key; "bootwire client replace-key" takes the code on its screen`,
  )
}

/** Claims to be a client that has a key, and has not shown it. */
function isImpostor(client: ClientRecord, key: ProvenKey | undefined): boolean {
  if (client.key === undefined) return false
  return key === undefined || client.key.fingerprint !== key.fingerprint
}

/** A key that it shows waits until somebody vouches for it. */
function withOffer(client: ClientRecord, shown: DeviceKeyRecord | undefined): ClientRecord {
  const { key, offeredKey } = client
  const known = [key?.fingerprint, offeredKey?.fingerprint]
  if (shown === undefined || known.includes(shown.fingerprint)) return client
  return { ...client, offeredKey: shown }
}

function vouchedFor(client: ClientRecord, fingerprint: string): ClientRecord {
  if (client.key?.fingerprint === fingerprint) return client
  const { offeredKey, claimsToBe: _, ...rest } = client
  if (offeredKey?.fingerprint === fingerprint) return { ...rest, key: offeredKey }
  throw new BootwireError(
    'INVALID_ARGUMENT',
    `Cannot vouch for the key ${fingerprint} of client "${client.hostname}": it shows ${offeredKey === undefined ? 'none' : 'another one'} by now`,
  )
}

function assertTellable(facts: MachineFacts): void {
  if (!isAnonymous(facts)) return
  throw new BootwireError(
    'MESSAGE_INVALID',
    'Cannot tell which machine this is: it reports no MAC address and no UUID of its own',
  )
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
