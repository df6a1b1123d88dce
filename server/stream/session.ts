/**
 * One connection of an agent, from its first frame to its last (PROTOCOL.md §3).
 *
 *     hello       nothing said yet; only `hello` is accepted
 *     challenged  the machine has named its key, and is to prove it; only `proof` is accepted
 *     identified  the client knows who it is; it waits, or opens a vDisk
 *     open        objects are streamed
 *     closed      nothing is sent or accepted any more
 *
 * Control messages are handled one after the other, since most need the database; requests for
 * objects are answered at once, they are accepted only in `open`. Whatever the peer does wrong ends in
 * `#fail`: an `error` message, a close code and a line in the log, never an exception.
 */
import { randomBytes } from 'node:crypto'
import type { Boot } from '#server/clients/boot.ts'
import type { BootLog } from '#server/clients/boot-log.ts'
import type { ClientRegistry, ProvenKey } from '#server/clients/client-registry.ts'
import { hydrationOf } from '#server/clients/hydration.ts'
import type { SettingsStore } from '#server/clients/settings-store.ts'
import { assertKeepable, writeCacheOf } from '#server/clients/write-cache-settings.ts'
import type { Log } from '#server/log.ts'
import type { ClientRecord, VersionRecord } from '#server/state/records.ts'
import { hardwareModel } from '#server/traces/hardware-model.ts'
import type { Traces } from '#server/traces/traces.ts'
import type { VDiskCatalog } from '#server/vdisks/vdisk-catalog.ts'
import type { WriteStore } from '#server/write-cache/write-store.ts'
import { BootwireError } from '#shared/errors.ts'
import {
  isProof,
  type KeyPlace,
  keyFingerprint,
  NONCE_BYTES,
  parseDeviceKey,
  proofText,
} from '#shared/identity/device-key.ts'
import { enrolCode } from '#shared/identity/enrol-code.ts'
import { invariant } from '#shared/invariant.ts'
import { decodeAgentMessage, encodeMessage } from '#shared/wire/codec.ts'
import { FRAME_CONTROL } from '#shared/wire/frame.ts'
import { ACCEPTED_PROTOCOLS } from '#shared/wire/limits.ts'
import type { AgentMessage, Hello, Hydration, Open, ServerMessage } from '#shared/wire/messages.ts'
import type { BootSets } from './boot-sets.ts'
import { CLOSE_CODE, type CloseCode, closeReason } from './close-code.ts'
import { messageOf } from './object-message.ts'
import { OpenStream } from './open-stream.ts'
import type { OpenVersions } from './open-versions.ts'
import { SerialQueue } from './serial-queue.ts'
import {
  errorMessage,
  type IdentitySettings,
  identityMessage,
  openedMessage,
  type StreamSettings,
} from './session-messages.ts'
import type { SessionTable, TableSession } from './session-table.ts'
import type { SlabPool } from './slab-pool.ts'
import type { UnreadableObjects } from './unreadable-objects.ts'
import { offersFor, permittedVersion, type Trust, vdiskGone } from './vdisk-access.ts'
import { WriteLane, writeMapFrames } from './write-lane.ts'

/**
 * Control messages of the peer waiting to be handled. After `hello` an agent sends its phases so far in one
 * go; more than this is a flood.
 */
const MESSAGES_WAITING_MAX = 64

/**
 * How long the machine that runs has to say so when another one says it is the same client. A network that works
 * takes milliseconds, an agent that is busy less than a second; a machine that was reset waits this much longer.
 */
const SIGN_OF_LIFE_MS = 3_000

/** Machines that are told of when they want to be a client that runs: more are a flood. */
const CONTESTANTS_MAX = 8

/** Of no client. */
const NO_BOOT = ''

/** How the log calls the level of a client's notice. */
const LOG_METHOD = { info: 'info', warning: 'warn', error: 'error' } as const

/** The connection, as far as a session knows it. */
export interface SessionSocket {
  /**
   * Takes whole websocket messages. `sent` is called when the network layer is done with the bytes,
   * also after a failure.
   */
  send(messages: Uint8Array, sent: () => void): void
  close(code: number, reason: string): void
  readonly bufferedBytes: number
  /** Asks the other end for a sign of life, and whether one came in time. */
  readonly answers: (timeoutMs: number) => Promise<boolean>
  /** BINDING_BYTES that only the two ends of this TLS connection know. */
  readonly binding: () => Uint8Array
}

export interface SessionServices {
  readonly registry: Pick<
    ClientRegistry,
    'admit' | 'get' | 'isConfirmed' | 'rememberChoice' | 'keepVersion'
  >
  readonly clientSettings: Pick<SettingsStore, 'forMachine'>
  readonly catalog: Pick<VDiskCatalog, 'version' | 'tryGet'>
  readonly boots: Pick<BootLog, 'resume' | 'find' | 'end' | 'save'>
  readonly versions: OpenVersions
  readonly bootSets: Pick<BootSets, 'acquire'>
  readonly traces: Pick<Traces, 'record'>
  readonly unreadable: UnreadableObjects
  readonly slabs: SlabPool
  readonly writes: WriteStore
  readonly sessions: SessionTable
  readonly settings: IdentitySettings
  readonly now: () => number
  readonly log: Log
}

export type SessionState = 'hello' | 'challenged' | 'identified' | 'open' | 'closed'

/** A machine that has named its key. */
interface Challenge {
  readonly hello: Hello
  readonly spki: Uint8Array
  readonly place: KeyPlace
  /** What is to be signed. */
  readonly text: Uint8Array
}

/** What a session knows once the agent said hello. */
interface Identified {
  readonly clientId: string
  readonly isAuthenticated: boolean
  /** Of the key that it has proven. */
  readonly fingerprint: string | undefined
  /** Why the token that it brought along does not admit it. */
  readonly joinRefusal: string | undefined
  readonly boot: Boot
  /** Server time at which the client's kernel started, to place its uptimes in time. */
  readonly kernelStartedAtMs: number
  /** The boot had a vDisk open before: a root runs on it and must not be stopped. */
  readonly resumes: boolean
  readonly model: string
}

export class Session implements TableSession {
  readonly #socket: SessionSocket
  readonly #address: string
  readonly #services: SessionServices
  #log: Log
  #state: SessionState = 'hello'
  #challenge: Challenge | undefined
  #identified: Identified | undefined
  #lastIdentity = ''
  #lastSettings = ''
  #stream: OpenStream | undefined
  #lastHydration: Hydration | undefined
  readonly #work = new SerialQueue((error) => this.#fail(error))
  #messagesWaiting = 0
  /** Addresses of machines that wanted to be this client while it ran. */
  readonly #contestedBy = new Set<string>()
  /** For the people at the machine. */
  #warning: string | undefined

  constructor(socket: SessionSocket, address: string, services: SessionServices) {
    this.#socket = socket
    this.#address = address
    this.#services = services
    this.#log = services.log.child({ address })
  }

  get state(): SessionState {
    return this.#state
  }

  get clientId(): string {
    return this.#known().clientId
  }

  get bootId(): string {
    return this.#known().boot.record.bootId
  }

  /** Whether the machine has proven to be its client. */
  get isAuthenticated(): boolean {
    return this.#identified?.isAuthenticated === true
  }

  /** Of the key that the machine has proven, if it has one. */
  get keyFingerprint(): string | undefined {
    return this.#identified?.fingerprint
  }

  /** What its screen shows while nobody has vouched for its key. */
  get enrolCode(): string | undefined {
    const identified = this.#identified
    if (identified?.fingerprint === undefined || identified.isAuthenticated) return undefined
    const { enrolSecret } = this.#services.settings
    return enrolCode(enrolSecret, identified.fingerprint, this.bootId)
  }

  get waiting(): boolean {
    return this.#state === 'identified'
  }

  get #trust(): Trust {
    const { vdiskForAnyone } = this.#services.settings
    return { isAuthenticated: this.isAuthenticated, vdiskForAnyone }
  }

  /** Takes one websocket message. */
  receive(frame: Uint8Array): void {
    if (this.#state === 'closed') return
    try {
      this.#take(frame)
    } catch (error) {
      this.#fail(error)
    }
  }

  refresh(): void {
    this.#work.add(async () => {
      if (this.#state === 'open') await this.#sendHydration()
      await this.#sendIdentity()
    })
  }

  supersede(sameBoot: boolean): void {
    this.#log.info({ sameBoot }, 'another connection of this client takes over')
    this.#close(CLOSE_CODE.superseded, 'another connection of this client took over', {
      boot: sameBoot ? 'goes on' : 'lost',
    })
  }

  get address(): string {
    return this.#address
  }

  async isAlive(timeoutMs: number): Promise<boolean> {
    return this.#state !== 'closed' && (await this.#socket.answers(timeoutMs))
  }

  contested(byAddress: string): void {
    if (this.#contestedBy.has(byAddress) || this.#contestedBy.size >= CONTESTANTS_MAX) return
    this.#contestedBy.add(byAddress)
    const message = `Another machine, at ${byAddress}, wanted to start as this client, and waits`
    this.#log.warn({ other: byAddress }, message)
    this.#known().boot.noticed({ atMs: this.#services.now(), level: 'warning', message })
    this.#warning = message
    this.refresh()
  }

  /** Ends the session from the server's side; the agent is free to come back. */
  end(code: CloseCode, reason: string): void {
    this.#close(code, reason)
  }

  /** The connection is gone, by the peer or by the network. */
  disconnected(): void {
    if (this.#state !== 'closed') this.#log.info('connection lost')
    this.#finish('lost')
  }

  /** Nothing of use came in time, or what came broke the rules: says so and closes. */
  reject(error: unknown): void {
    this.#fail(error)
  }

  #take(frame: Uint8Array): void {
    if (frame[0] === FRAME_CONTROL) return this.#enqueueMessage(decodeAgentMessage(frame), frame)
    if (this.#stream !== undefined) return this.#stream.take(frame)
    if (frame[0] === undefined) throw invalid('it begins with nothing')
    throw invalid(`a frame of type ${frame[0]} came before a vDisk is open`)
  }

  #enqueueMessage(message: AgentMessage, frame: Uint8Array): void {
    if (this.#messagesWaiting >= MESSAGES_WAITING_MAX) {
      throw new BootwireError(
        'LIMIT_EXCEEDED',
        `Cannot queue another message: ${MESSAGES_WAITING_MAX} wait already`,
      )
    }
    this.#messagesWaiting += 1
    // What is to be signed is all of it.
    const challenge = message.kind === 'hello' ? this.#challengeFor(message, frame) : undefined
    this.#work.add(() => {
      this.#messagesWaiting -= 1
      return this.#handle(message, challenge)
    })
  }

  #challengeFor(hello: Hello, frame: Uint8Array): (Challenge & { nonce: Buffer }) | undefined {
    if (hello.key === undefined) return undefined
    const nonce = randomBytes(NONCE_BYTES)
    const text = proofText({ binding: this.#socket.binding(), hello: frame, nonce })
    const spki = Buffer.from(hello.key.spki, 'base64')
    return { hello, spki, place: hello.key.place, text, nonce }
  }

  #handle(
    message: AgentMessage,
    challenge: (Challenge & { nonce: Buffer }) | undefined,
  ): Promise<void> | void {
    if (this.#state === 'closed') return
    if (message.kind === 'hello') return this.#hello(message, challenge)
    if (message.kind === 'proof') return this.#proof(message.signature)
    const { boot, kernelStartedAtMs } = this.#greeted(message.kind)
    const nowMs = this.#services.now()
    switch (message.kind) {
      case 'open':
        return this.#open(message)
      case 'phase':
        // A client's clock may run fast; nothing it reports has happened in the future.
        return boot.stamp(
          message.phase,
          Math.min(nowMs, kernelStartedAtMs + message.uptimeSeconds * 1000),
        )
      case 'status': {
        const { kind: _, ...status } = message
        return boot.reported(status)
      }
      case 'notice': {
        const { level, message: text } = message
        // Only what is kept, so that no client fills the server's disk with its log.
        if (!boot.noticed({ atMs: nowMs, level, message: text })) return
        return this.#log[LOG_METHOD[level]]({ notice: text }, 'notice of the client')
      }
      case 'bye':
        return this.#bye(message.reason)
    }
  }

  async #hello(
    hello: Hello,
    challenge: (Challenge & { nonce: Buffer }) | undefined,
  ): Promise<void> {
    if (this.#state !== 'hello') throw invalid('hello was said already')
    if (!ACCEPTED_PROTOCOLS.includes(hello.protocol)) {
      throw new BootwireError(
        'PROTOCOL_VERSION',
        `Cannot talk to agent ${hello.agentVersion}: it speaks protocol ${hello.protocol}, this server ${ACCEPTED_PROTOCOLS.join(', ')}`,
      )
    }
    if (challenge === undefined) return await this.#admit(hello, undefined)
    parseDeviceKey(challenge.spki)
    this.#challenge = challenge
    this.#state = 'challenged'
    this.#send({ kind: 'challenge', nonce: challenge.nonce.toString('base64') })
  }

  async #proof(signature: string): Promise<void> {
    const challenge = this.#challenge
    if (this.#state !== 'challenged' || challenge === undefined) {
      throw invalid('a proof came that nobody had asked for')
    }
    this.#challenge = undefined
    const { hello, spki, place, text } = challenge
    if (!isProof(spki, Buffer.from(signature, 'base64'), text)) {
      throw new BootwireError(
        'PROOF_INVALID',
        'Cannot admit this machine: it has not proven that it has the key it named',
      )
    }
    await this.#admit(hello, { fingerprint: keyFingerprint(spki), place })
  }

  async #admit(hello: Hello, key: ProvenKey | undefined): Promise<void> {
    const { registry, boots, sessions, now } = this.#services
    const kernelStartedAtMs = now() - hello.uptimeSeconds * 1000
    const admitted = await registry.admit(hello.facts, this.#address, key, hello.joinToken)
    const { client, isAuthenticated, revoked, joinRefusal } = admitted
    await this.#assertAlone(client, hello)
    if (this.#isClosed()) return
    const boot = await boots.resume(client.id, hello.bootId, kernelStartedAtMs)
    const resumes = boot.record.versionId !== undefined
    if (revoked !== undefined && (revoked.cut || !resumes)) {
      if (!boot.attached) await boots.end(boot, 'lost')
      throw new BootwireError(
        'KEY_REVOKED',
        `Cannot admit client "${client.hostname}": its key was revoked`,
      )
    }
    if (this.#isClosed()) {
      if (!boot.attached) await boots.end(boot, 'lost')
      return
    }
    // The connection before is lost, and this server has not noticed.
    if (boot.attached) boot.reconnected()
    boot.attached = true
    const model = hardwareModel(hello.facts)
    this.#identified = {
      clientId: client.id,
      isAuthenticated,
      fingerprint: key?.fingerprint,
      joinRefusal,
      boot,
      kernelStartedAtMs,
      resumes,
      model,
    }
    this.#log = this.#log.child({ client: client.hostname, bootId: hello.bootId })
    const { state } = client
    this.#log.info({ state, isAuthenticated, kernel: hello.kernelRelease, resumes }, 'session')
    this.#state = 'identified'
    sessions.enter(this)
    await this.#sendIdentity()
  }

  /**
   * One live boot per client: while the machine that runs as this client shows that it is alive, another one is
   * not it. One that was started again, or lost its network, is silent. A boot on which a root runs may always
   * come back.
   */
  async #assertAlone(client: ClientRecord, { bootId }: Hello): Promise<void> {
    const { boots, sessions } = this.#services
    const other = sessions.get(client.id)
    if (other === undefined || other.bootId === bootId) return
    if ((await boots.find(client.id, bootId))?.versionId !== undefined) return
    if (!(await other.isAlive(SIGN_OF_LIFE_MS))) return
    other.contested(this.#address)
    throw new BootwireError(
      'IDENTITY_IN_USE',
      `Cannot start this machine as client "${client.hostname}": another machine at ${other.address} runs as it`,
    )
  }

  async #sendIdentity(): Promise<void> {
    if (this.#state !== 'identified' && this.#state !== 'open') return
    const { clientId, boot, resumes } = this.#known()
    const isOpen = this.#state === 'open'
    const client = await this.#services.registry.get(clientId)
    if (client === undefined) {
      if (isOpen) return
      return this.#close(CLOSE_CODE.serviceRestart, 'this client was removed; say hello again')
    }
    // Of a running system nothing is taken by administration.
    const state = resumes || isOpen ? 'approved' : client.state
    const { isAuthenticated, enrolCode } = this
    const offers = await offersFor(client, this.#trust, this.#services.catalog)
    const nowMs = this.#services.now()
    const note = await this.#noteFor(client)
    const settings =
      state === 'approved'
        ? await this.#services.clientSettings.forMachine(client, isAuthenticated)
        : undefined
    const warning = this.#warning
    const facts = {
      client,
      state,
      ...offers,
      isAuthenticated,
      enrolCode,
      note,
      settings,
      warning,
      nowMs,
    }
    const identity = identityMessage(facts, this.#services.settings)
    // Time passes, and that is no news; nor is a menu to who has chosen.
    const { hostname } = identity
    const news = JSON.stringify(isOpen ? { hostname, settings } : { ...identity, serverTimeMs: 0 })
    const last = isOpen ? this.#lastSettings : this.#lastIdentity
    if (this.#isClosed() || news === last) return
    if (!isOpen) this.#lastIdentity = news
    this.#lastSettings = JSON.stringify({ hostname, settings, warning })
    this.#send(identity)
    if (state === 'approved' && !isOpen) boot.stamp('identified', nowMs)
  }

  /** Why a machine waits that somebody might think is known. */
  async #noteFor({ claimsToBe, state, id }: ClientRecord): Promise<string | undefined> {
    if (state === 'approved') return undefined
    const { joinRefusal } = this.#known()
    if (joinRefusal !== undefined || claimsToBe === undefined) return joinRefusal
    const claimed = await this.#services.registry.get(claimsToBe)
    // By their ids: a note has 200 characters, and two host names may have 126.
    return claimed?.key === undefined
      ? `It may be ${claimed?.hostname ?? claimsToBe} with another network card or board. If so: bootwire client confirm ${claimsToBe} ${id}`
      : `It claims to be the client ${claimsToBe}, and has not shown that one's key`
  }

  async #open(message: Open): Promise<void> {
    if (this.#state === 'open') throw invalid('a vDisk is open already')
    const { registry, catalog } = this.#services
    const { clientId, boot } = this.#known()
    const { vdisk, versionId, firstPushBytes } = message
    try {
      const client = await registry.get(clientId)
      const request = { vdisk, versionId }
      const who = { client, trust: this.#trust }
      const version = await permittedVersion(request, who, boot.record, catalog)
      const writeCache = writeCacheOf(client, (await catalog.tryGet(vdisk))?.record)
      assertKeepable(writeCache)
      await this.#openStream(
        version,
        { hydration: hydrationOf(client), writeCache },
        firstPushBytes,
      )
    } catch (error) {
      if (!(error instanceof BootwireError)) throw error
      this.#log.warn({ vdisk, versionId, code: error.code }, error.message)
      this.#send(errorMessage(error)) // the session stays: the administrator may mend it
    }
  }

  async #openStream(
    version: VersionRecord,
    settings: StreamSettings,
    firstPushBytes: number,
  ): Promise<void> {
    const { versions, bootSets, registry, boots, catalog } = this.#services
    const { vdisk, versionId } = version
    await using opened = new AsyncDisposableStack()
    const lease = opened.adopt(await versions.acquire(versionId), (it) => it.release())
    if (this.#isClosed()) return
    const { clientId, boot, model, resumes } = this.#known()
    const writes = this.#writeLane(version, settings, resumes)
    if (writes !== undefined) opened.defer(() => writes.close())
    const written = settings.writeCache.place === 'server' ? await writes?.open() : undefined
    boot.opened(vdisk, versionId)
    const acquiring = bootSets.acquire(lease.reader)
    opened.defer(async () => (await acquiring)?.release()) // before what it reads is closed
    // Durable before a root runs on it: whatever happens, this boot gets the same version again.
    // Looked for again, as whoever removes it looks for its boots again: one sees the other.
    const [bootSet, , found] = await Promise.all([
      acquiring,
      boots.save(),
      catalog.version(vdisk, versionId),
      settings.writeCache.isKept ? registry.keepVersion(clientId, vdisk, versionId) : undefined,
    ])
    if (this.#isClosed()) return
    if (found === undefined) throw vdiskGone(vdisk)
    opened.move() // from now on `#finish` gives them back
    this.#stream = new OpenStream({
      lease,
      bootSet,
      writes,
      boot,
      model,
      services: this.#services,
      log: this.#log,
      send: (messages, sent) => this.#sendMessages(messages, sent),
      bufferedBytes: () => this.#socket.bufferedBytes,
    })
    this.#state = 'open'
    this.#lastHydration = settings.hydration
    const room = writes && {
      roomBytes: written?.roomBytes ?? this.#services.writes.quotaBytes,
      runs: written?.runs.length ?? 0,
    }
    const { resign } = this.#services.settings
    const more = { ...(room && { writes: room }), ...(resign && { resign }) }
    this.#send(openedMessage(version, lease.reader, { ...settings, ...more }))
    for (const frame of writeMapFrames(written?.runs ?? [])) {
      this.#sendMessages(messageOf(frame), () => undefined)
    }
    this.#log.info({ vdisk, versionId }, 'vDisk opened')
    this.#stream.start(firstPushBytes)
    await registry.rememberChoice(clientId, vdisk).catch((error: unknown) => {
      this.#log.error({ err: error }, 'cannot remember the choice of the client')
    })
  }

  /** Where the client writes to; undefined where the server takes nothing. */
  #writeLane(
    { vdisk, versionId, sizeBytes }: VersionRecord,
    { writeCache: { place, isKept } }: StreamSettings,
    resumes: boolean,
  ): WriteLane | undefined {
    if (place !== 'server' && place !== 'auto') return undefined
    const { clientId, boot } = this.#known()
    const { bootId } = boot.record
    return new WriteLane({
      store: this.#services.writes,
      key: { clientId, bootId, vdisk, versionId, sizeBytes, isKept, resumes },
      send: (frame) => this.#sendMessages(messageOf(frame), () => undefined),
      onError: (error) => this.#fail(error),
    })
  }

  /** Tells the agent when the administrator changed how the rest of the vDisk is fetched. */
  async #sendHydration(): Promise<void> {
    const hydration = hydrationOf(await this.#services.registry.get(this.#known().clientId))
    const last = this.#lastHydration
    const isNews =
      last?.mode !== hydration.mode || last.rateBytesPerSecond !== hydration.rateBytesPerSecond
    if (this.#isClosed() || !isNews) return
    this.#lastHydration = hydration
    this.#send({ kind: 'hydrate', hydration })
  }

  #bye(reason: 'poweroff' | 'reboot' | 'halt' | 'kexec'): void {
    const { boot } = this.#known()
    if (reason !== 'kexec') boot.stamp('shutdown', this.#services.now())
    this.#log.info({ reason }, 'client has shut down')
    this.#close(CLOSE_CODE.normal, '', { boot: reason })
  }

  #fail(error: unknown): void {
    if (this.#state === 'closed') return
    if (error instanceof BootwireError) this.#log.warn({ code: error.code }, error.message)
    else this.#log.error({ err: error }, 'session failed')
    const message = errorMessage(error)
    this.#send(message)
    this.#close(closeCodeOf(error), `${message.code}: ${message.message}`)
  }

  #send(message: ServerMessage): void {
    this.#sendMessages(messageOf(encodeMessage(message)), () => undefined)
  }

  #sendMessages(messages: Uint8Array, sent: () => void): void {
    if (this.#state === 'closed') return sent()
    this.#identified?.boot.addWireBytes(messages.length)
    this.#socket.send(messages, sent)
  }

  #close(
    code: CloseCode,
    reason: string,
    options: { readonly boot: BootOutcome } = { boot: 'lost' },
  ): void {
    if (this.#state === 'closed') return
    this.#finish(options.boot)
    this.#socket.close(code, closeReason(reason))
  }

  #finish(outcome: BootOutcome): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    const closed = this.#stream?.close()
    if (this.#identified === undefined) return
    this.#services.sessions.leave(this)
    if (outcome === 'goes on') return
    void this.#services.boots.end(this.#identified.boot, outcome)
    if (outcome !== 'lost' && outcome !== 'kexec') void this.#forgetDropped(closed)
  }

  /** The system is down: what it has not kept is of no use to anybody. */
  async #forgetDropped(closed: Promise<void> | undefined): Promise<void> {
    const { writes } = this.#services
    try {
      await closed
      await writes.forgetBoots(this.clientId, NO_BOOT)
    } catch (error) {
      this.#log.error({ err: error }, 'cannot remove what a client has written')
    }
  }

  /** For use after an await, where the compiler would believe the state to be unchanged. */
  #isClosed(): boolean {
    return this.#state === 'closed'
  }

  #greeted(kind: string): Identified {
    if (this.#identified === undefined) throw invalid(`${kind} came before hello`)
    return this.#identified
  }

  #known(): Identified {
    invariant(this.#identified !== undefined, 'the session has not identified its client')
    return this.#identified
  }
}

/** What becomes of the boot when its session ends. */
type BootOutcome = 'goes on' | 'lost' | 'poweroff' | 'reboot' | 'halt' | 'kexec'

function closeCodeOf(error: unknown): CloseCode {
  if (!(error instanceof BootwireError)) return CLOSE_CODE.internalError
  if (error.code === 'MESSAGE_INVALID' || error.code === 'PROTOCOL_VERSION') {
    return CLOSE_CODE.protocolError
  }
  const isLater = error.code === 'LIMIT_EXCEEDED' || error.code === 'IDENTITY_IN_USE'
  return isLater ? CLOSE_CODE.tryAgainLater : CLOSE_CODE.internalError
}

function invalid(why: string): BootwireError {
  return new BootwireError('MESSAGE_INVALID', `Cannot use the agent's message: ${why}`)
}
